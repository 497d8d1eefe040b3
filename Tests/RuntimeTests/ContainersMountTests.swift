import Files
import Glibc
import PluginAPI
import Testing

@testable import RuntimeOCI

@Suite struct ContainersMountTests {
    private func mount(_ kind: MountKind, _ source: String, _ target: String, readOnly: Bool = false) -> Mount {
        var mount = Mount()
        mount.kind = kind
        mount.source = source
        mount.target = target
        mount.readOnly = readOnly
        return mount
    }

    @Test func bindMountsShowTheHostsFiles() async throws {
        let test = try TestRuntime()
        let folder = "\(test.folder)/shared"
        try Files.makeDirectory(folder)
        try Files.writeAtomically(Array("hello\n".utf8), to: "\(folder)/file")
        let result = try await test.run("cat /mnt/file; echo back >/mnt/back; touch /fixed/x || echo refused; cat /one") {
            $0.mounts = [
                self.mount(.bind, folder, "/mnt"), self.mount(.bind, folder, "/fixed", readOnly: true), self.mount(.bind, "\(folder)/file", "/one"),
            ]
        }
        #expect(result.output == "hello\nrefused\nhello\n", "\(result.errors)")
        #expect(try Files.readText("\(folder)/back") == "back\n")
        try await test.finish()
    }

    @Test func aMissingSourceAndOtherMistakesAreRefused() async throws {
        let test = try TestRuntime()
        func refusal(_ mounts: [Mount]) async -> String {
            do {
                _ = try await test.create(["/bin/true"]) { $0.mounts = mounts }
                return "accepted"
            } catch {
                return ApusError(error).message
            }
        }
        #expect(
            await refusal([mount(.bind, "/no/such/x", "/mnt")])
                == "invalid mount config for type \"bind\": bind source path does not exist: /no/such/x")
        #expect(await refusal([mount(.bind, "/tmp", "mnt")]).contains("mount path must be absolute"))
        #expect(await refusal([mount(.bind, "/tmp", "/")]).contains("destination can't be '/'"))
        #expect(await refusal([mount(.bind, "/tmp", "/a"), mount(.tmpfs, "", "/a")]) == "Duplicate mount point: /a")
        #expect(await refusal([mount(.volume, "bad/name", "/a")]).contains("includes invalid characters for a local volume name"))
        #expect(try await test.runtime.containers().isEmpty)
        #expect(try Files.list("\(test.folder)/state/containers").isEmpty)
        var made = mount(.bind, "\(test.folder)/made/here", "/mnt")
        made.bindOptions = BindOptions()
        made.bindOptions?.createMountpoint = true
        let wanted = made
        #expect(try await test.run("touch /mnt/x && echo made") { $0.mounts = [wanted] }.output == "made\n")
        #expect(Files.exists("\(test.folder)/made/here/x"))
        try await test.finish()
    }

    @Test func tmpfsHasSizeAndMode() async throws {
        let test = try TestRuntime()
        var tmpfs = mount(.tmpfs, "", "/scratch")
        tmpfs.tmpfsOptions = TmpfsOptions()
        tmpfs.tmpfsOptions?.sizeBytes = 1 << 20
        tmpfs.tmpfsOptions?.mode = 0o700
        let wanted = tmpfs
        let result = try await test.run(
            "stat -c %a /scratch; dd if=/dev/zero of=/scratch/x bs=1k count=2000 2>/dev/null || echo full; grep ' /dev/shm ' /proc/mounts | grep -c size=131072k"
        ) {
            $0.mounts = [wanted]
            $0.shmSize = 128 << 20
        }
        #expect(result.output == "700\nfull\n1\n", "\(result.output) \(result.errors)")
        try await test.finish()
    }

    @Test func aNewVolumeIsFilledFromTheImageAndKept() async throws {
        let test = try TestRuntime()
        let first = try await test.run("cat /data/file /data/deep/file; echo changed >/data/file") {
            $0.mounts = [self.mount(.volume, "stuff", "/data")]
        }
        #expect(first.output == "from the image\ndeep\n", "\(first.errors)")
        let id = try await test.create(["/bin/cat", "/data/file"]) { $0.mounts = [self.mount(.volume, "stuff", "/data")] }
        await #expect { try await test.runtime.removeVolume(name: "stuff") } throws: { ($0 as? ApusError)?.code == .conflict }
        _ = try await test.runtime.start(id)
        _ = try await test.runtime.wait(id)
        #expect(try await test.log(id).output == "changed\n")
        var plain = mount(.volume, "plain", "/data")
        plain.volumeOptions = VolumeOptions()
        plain.volumeOptions?.noCopy = true
        plain.volumeOptions?.labels = ["kind": "test"]
        let wanted = plain
        #expect(try await test.run("ls /data | wc -l") { $0.mounts = [wanted] }.output == "0\n")
        let volumes = try await test.runtime.volumes()
        #expect(volumes.map(\.name).sorted() == ["plain", "stuff"])
        #expect(volumes.first { $0.name == "plain" }?.labels == ["kind": "test"])
        #expect(try await test.runtime.diskUsage().volumes["stuff"] ?? 0 > 0)
        try await test.runtime.remove(id)
        try await test.runtime.removeVolume(name: "stuff")
        try await test.runtime.removeVolume(name: "plain")
        await #expect { try await test.runtime.removeVolume(name: "plain") } throws: { ($0 as? ApusError)?.code == .notFound }
        try await test.finish()
    }

    @Test func anonymousVolumesGoWithAContainerThatRemovesItself() async throws {
        let test = try TestRuntime()
        _ = try await test.run("touch /data/x") {
            $0.mounts = [self.mount(.volume, "", "/data")]
            $0.removeWhenEnded = true
        }
        #expect(try await test.runtime.volumes().isEmpty)
        _ = try await test.run("touch /data/x") { $0.mounts = [self.mount(.volume, "", "/data")] }
        #expect(try await test.runtime.volumes().count == 1)
        try await test.finish()
    }

    @Test func manyLayersAreMounted() async throws {
        let folder = try Files.makeTemporaryDirectory(in: BusyboxImage.root, prefix: "many")
        var layers = BusyboxImage.layers
        for number in 0..<120 {
            let layer = "\(folder)/\(String(repeating: "0", count: 60))\(number)"
            try Files.makeDirectory(layer, permissions: 0o755)
            try Files.writeAtomically(Array("\(number)\n".utf8), to: "\(layer)/number", permissions: 0o644, sync: false)
            try Files.writeAtomically([], to: "\(layer)/in-\(number)", permissions: 0o644, sync: false)
            layers.insert(layer, at: 0)
        }
        let test = try TestRuntime(layers: layers)
        #expect(try await test.run("cat /number; ls / | grep -c in-").output == "119\n120\n")
        try await test.finish()
        try Files.removeTree(folder)
    }

    @Test func linksInTheImageDoNotLeadOutOfIt() async throws {
        // /etc/passwd of the image is a link to a file of the host: the user lookup must not read it.
        let folder = try Files.makeTemporaryDirectory(in: BusyboxImage.root, prefix: "links")
        try Files.makeDirectory("\(folder)/etc", permissions: 0o755)
        try Files.writeAtomically(Array("ghost:x:123:123::/:/bin/sh\n".utf8), to: "\(folder)-passwd", permissions: 0o644)
        symlink("../../../../../../../../../..\(folder)-passwd", "\(folder)/etc/passwd")
        let test = try TestRuntime(layers: [folder] + BusyboxImage.layers)
        await #expect { try await test.start(["/bin/true"]) { $0.user = "ghost" } } throws: { error in
            (error as? ApusError)?.message.contains("unable to find user ghost") ?? false
        }
        try await test.finish()
        try Files.removeTree(folder)
        try Files.removeTree("\(folder)-passwd")
    }
}
