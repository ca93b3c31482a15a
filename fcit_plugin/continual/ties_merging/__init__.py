"""TIES merging: the stages' changes of one LoRA become one, without those that contradict each other."""
