"""What a run will do, counted before it starts: who trains what when, steps, bytes, memory. Nothing is loaded or trained."""
