__version__ = "0.2.0"


def _let_torchaudio_import_without_its_extension():
    """Beside a CPU build of torch, torchaudio's compiled extension cannot be loaded, and importing torchaudio
    (which transformers does whenever it is installed) fails. Everything used here is torchaudio's pure-torch part.
    So: where executing `torchaudio._extension` raises, mark the extension as absent. Where it loads, nothing changes."""
    import sys
    from importlib.machinery import PathFinder

    name = "torchaudio._extension"

    def mark_absent(module):
        def fail_if_no_align(func):
            def unavailable(*args, **kwargs):
                raise RuntimeError(f"{func.__name__} needs torchaudio's compiled extension, which does not load here")

            return unavailable

        module._IS_TORCHAUDIO_EXT_AVAILABLE = module._IS_ALIGN_AVAILABLE = False
        module._check_cuda_version = lambda: None
        module.fail_if_no_align = fail_if_no_align

    class Finder:
        @staticmethod
        def find_spec(fullname, path=None, target=None):
            spec = PathFinder.find_spec(fullname, path, target) if fullname == name else None
            if spec is None:
                return None
            execute = spec.loader.exec_module

            def exec_module(module):
                try:
                    execute(module)
                except (OSError, RuntimeError, ImportError):
                    mark_absent(module)

            spec.loader.exec_module = exec_module
            return spec

    if name not in sys.modules:
        sys.meta_path.insert(0, Finder)


_let_torchaudio_import_without_its_extension()
