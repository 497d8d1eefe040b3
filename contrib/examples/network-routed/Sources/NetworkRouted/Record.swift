import PluginAPI

/// What the engine reads from the file before it loads it.
@section("apus_plugin") @used
let record: PluginRecord = (
    magic: 0x4e49_474c_5053_5041, size: 56,
    api: (major: 0, minor: 1),
    role: 3,  // network
    version: (major: 0, minor: 1, patch: 0),
    // routed
    name: [
        0x72, 0x6f, 0x75, 0x74, 0x65, 0x64, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0,
    ]
)
