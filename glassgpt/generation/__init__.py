"""From a trained model to text: the sampler, the cache, the loop."""
