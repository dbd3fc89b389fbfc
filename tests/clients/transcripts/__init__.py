"""What the original answered: facts, one file a chapter, and what they are made with."""
