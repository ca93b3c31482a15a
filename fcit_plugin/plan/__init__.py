"""What a run will do, counted before it starts: who trains what when, steps, bytes, memory. No torch, no trainer."""
