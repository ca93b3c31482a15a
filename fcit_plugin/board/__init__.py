"""The tab FCIT of LLaMA Board: what it shows, the recipe that it makes, the run that it starts; hooked in by a seam."""
