"""What a model is and costs, from its config alone: parameters, bytes, memory, arithmetic. No torch."""
