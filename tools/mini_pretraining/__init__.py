"""How the small base model is made: its scenes, its questions, its labels, its parts."""
