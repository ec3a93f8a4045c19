"""Pictures of what a run did and of what a network learned."""
