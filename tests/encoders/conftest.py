"""Small encoders, small models of transformers, and made-up clips, for all tests of this folder."""
import pytest
import torch
import transformers

from spa_lib.encoders import create_encoder


@pytest.fixture(scope="session")
def noise():
    """`noise(2, 16000, batch=3)`: clips of so many seconds at that rate, always the same."""
    def make(seconds, rate, batch=1, seed=0):
        return 0.1 * torch.randn(batch, int(seconds * rate), generator=torch.Generator().manual_seed(seed))

    return make


@pytest.fixture(scope="session")
def tiny():
    """`tiny("ast", clip_seconds=2)`: an encoder of the smallest size, its weights always the same."""
    def make(name, seed=0, **options):
        torch.manual_seed(seed)
        return create_encoder(name, size="tiny", **options)

    return make


# --- models of transformers ---------------------------------------------------------------------------------
SMALL = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64)
SPEECH = SMALL | dict(conv_dim=[16]*7, num_conv_pos_embeddings=16, num_conv_pos_embedding_groups=4)


def ast():
    config = transformers.ASTConfig(**SMALL, max_length=128)
    return transformers.ASTForAudioClassification(config), transformers.ASTFeatureExtractor(max_length=128)


def clap(fused=False):
    audio = dict(patch_embeds_hidden_size=16, depths=[1, 1], num_attention_heads=[2, 2], num_hidden_layers=2,
                 hidden_size=32, enable_fusion=fused, aff_block_r=2)
    text = SMALL | dict(vocab_size=50, projection_dim=16)
    config = transformers.ClapConfig(audio_config=audio, text_config=text, projection_dim=16)
    mode = "fusion" if fused else "rand_trunc"
    return transformers.ClapModel(config), transformers.ClapFeatureExtractor(truncation=mode)


def wav2vec2():
    config = transformers.Wav2Vec2Config(**SPEECH)
    return transformers.Wav2Vec2ForPreTraining(config), transformers.Wav2Vec2FeatureExtractor()


def hubert():
    config = transformers.HubertConfig(**SPEECH, feat_extract_norm="layer")
    return transformers.HubertModel(config), transformers.Wav2Vec2FeatureExtractor(do_normalize=False)


def wavlm():
    config = transformers.WavLMConfig(**SPEECH)
    return transformers.WavLMModel(config), transformers.Wav2Vec2FeatureExtractor()


def whisper():
    config = transformers.WhisperConfig(
        d_model=32, encoder_layers=2, decoder_layers=1, encoder_attention_heads=2, decoder_attention_heads=2,
        encoder_ffn_dim=64, decoder_ffn_dim=64, vocab_size=60, max_source_positions=100, pad_token_id=0,
        bos_token_id=0, eos_token_id=0, decoder_start_token_id=0)
    return transformers.WhisperModel(config), transformers.WhisperFeatureExtractor(chunk_length=2)


def wav2vec2_bert():
    config = transformers.Wav2Vec2BertConfig(**SMALL, feature_projection_input_dim=160, add_adapter=False)
    return transformers.Wav2Vec2BertModel(config), transformers.SeamlessM4TFeatureExtractor()


MADE_BY = dict(ast=ast, clap=clap, clap_fused=lambda: clap(True), wav2vec2=wav2vec2, hubert=hubert,
               wavlm=wavlm, whisper=whisper, wav2vec2_bert=wav2vec2_bert)


@pytest.fixture(scope="session")
def hf_folder(tmp_path_factory):
    """`hf_folder("ast")`: a small model of that kind, its weights always the same."""
    transformers.utils.logging.disable_progress_bar()
    top = tmp_path_factory.mktemp("hf")

    def make(kind):
        if not (top / kind).exists():
            torch.manual_seed(0)
            for part in MADE_BY[kind]():
                part.save_pretrained(top / kind)
        return top / kind

    return make
