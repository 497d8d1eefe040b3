import PluginAPI

/// What the engine reads from the file before it loads it.
@section("apus_plugin") @used
let record: PluginRecord = (
    magic: 0x4e49_474c_5053_5041, size: 56,
    api: (major: 0, minor: 1),
    role: 4,  // balancer
    version: (major: 0, minor: 1, patch: 0),
    // ipvs
    name: [
        0x69, 0x70, 0x76, 0x73, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
    ]
)
