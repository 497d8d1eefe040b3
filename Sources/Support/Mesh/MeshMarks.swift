import PluginAPI

/// The marks by which the mesh tells its packets and connections apart. The upper half says what a mark means, the lower half is a node's index.
///
/// | Mark | On | Meaning |
/// |---|---|---|
/// | `0x0100_nnnn` | connections, their answers | node n brought it: answers go back to n |
/// | `0x0300_nnnn` | connections, their requests | its task runs on node n: requests go there |
/// | `0x0100_0000` | sockets | a program of the engine asks a task by its address in the mesh |
/// | `0x0400_0000` | packets out of the mesh | lets the check of the return path find a way where no route leads to the client |
///
/// A packet keeps its mark up to the mesh's device, which clears it; a connection keeps it to its end, so it goes on when the node has other tasks.
/// The bits are chosen to be apart from those that Kubernetes (`0xc000`), Tailscale (`0xff_0000`) and IPVS set-ups (small numbers) use.
public enum MeshMarks {
    /// What a mark means is in these bits.
    static let kindMask: UInt32 = 0xffff_0000
    static let brought: UInt32 = 0x0100_0000
    static let taken: UInt32 = 0x0300_0000
    static let arrived: UInt32 = 0x0400_0000
    /// With this mask `brought` and `taken` are the same: to be sent by the mesh's device.
    static let routedMask: UInt32 = 0xfdff_0000
    static let indexMask: UInt32 = 0x0000_ffff

    /// SO_MARK of a socket with which a program of the engine, such as the proxy of [::1], connects to a task's address in the mesh.
    public static let socket = brought

    static func text(_ mark: UInt32) -> String { "0x" + String(mark, radix: 16) }
}
