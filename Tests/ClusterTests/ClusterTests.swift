import Testing

/// Real engines as one swarm, and whatever fails. One cluster at a time: they are many processes.
@Suite(.serialized) struct ClusterTests {}
