"""SemanticAC, the second paper: audio classification by aligning clips with the text of their labels."""
