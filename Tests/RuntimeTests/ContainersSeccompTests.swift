import Coding
import PluginAPI
import Testing

@testable import RuntimeOCI

@Suite struct ContainersSeccompTests {
    private let platform = SeccompPlatform(architecture: "SCMP_ARCH_X86_64", dockerArchitecture: "amd64")
    private let kernel = KernelVersion(major: 6, minor: 1)

    private func allowed(_ json: JSONValue) -> Set<String> {
        var names: Set<String> = []
        for call in json["syscalls"]?.array ?? [] where call["action"]?.string == "SCMP_ACT_ALLOW" && call["args"] == nil {
            names.formUnion((call["names"]?.array ?? []).compactMap(\.string))
        }
        return names
    }

    @Test func theStandardProfileDependsOnCapabilities() {
        let plain = SeccompProfile.standard.resolve(capabilities: Capabilities.defaults, platform: platform, kernel: kernel)
        #expect(plain["defaultAction"]?.string == "SCMP_ACT_ERRNO")
        #expect(plain["defaultErrnoRet"]?.integer == 1)
        #expect((plain["architectures"]?.array ?? []).compactMap(\.string) == ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"])
        let names = allowed(plain)
        for name in ["read", "openat", "execve", "chroot", "arch_prctl", "ptrace"] { #expect(names.contains(name), "\(name)") }
        for name in ["mount", "unshare", "setns", "bpf", "kexec_load", "init_module", "keyctl", "io_uring_setup", "clone", "clone3", "userfaultfd"] {
            #expect(!names.contains(name), "\(name)")
        }
        let admin = allowed(SeccompProfile.standard.resolve(capabilities: ["CAP_SYS_ADMIN"], platform: platform, kernel: kernel))
        for name in ["mount", "unshare", "setns", "clone"] { #expect(admin.contains(name), "\(name)") }
        #expect(!admin.contains("chroot"))
        #expect(
            !allowed(SeccompProfile.standard.resolve(capabilities: [], platform: platform, kernel: KernelVersion(major: 4, minor: 4))).contains(
                "ptrace"))
    }

    @Test func clone3FailsAsIfItWereNotThere() {
        let plain = SeccompProfile.standard.resolve(capabilities: [], platform: platform, kernel: kernel)
        let call = plain["syscalls"]?.array?.first { ($0["names"]?.array ?? []).contains("clone3") }
        #expect(call?["action"]?.string == "SCMP_ACT_ERRNO")
        #expect(call?["errnoRet"]?.integer == 38)
        let clone = plain["syscalls"]?.array?.first { ($0["names"]?.array ?? []) == ["clone"] }
        #expect(clone?["args"]?[0]?["op"]?.string == "SCMP_CMP_MASKED_EQ")
        #expect(clone?["args"]?[0]?["value"]?.integer == 2_114_060_288)
    }

    @Test func unknownCallsAreDropped() throws {
        let profile = try SeccompProfile(
            dockerFormat: """
                {"defaultAction": "SCMP_ACT_ERRNO", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
                 "syscalls": [{"names": ["read", "made_up", "socketcall"], "action": "SCMP_ACT_ALLOW"}, {"names": ["made_up"], "action": "SCMP_ACT_LOG"}]}
                """)
        let json = profile.resolve(capabilities: [], platform: platform, kernel: kernel)
        #expect(json["syscalls"]?.array?.count == 1)
        #expect(allowed(json) == ["read", "socketcall"])
    }

    @Test func conditionsOfCustomProfiles() throws {
        let profile = try SeccompProfile(
            dockerFormat: """
                {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
                  {"name": "read", "action": "SCMP_ACT_ALLOW", "includes": {"caps": ["CAP_KILL"]}},
                  {"name": "write", "action": "SCMP_ACT_ALLOW", "excludes": {"caps": ["CAP_KILL"]}},
                  {"name": "open", "action": "SCMP_ACT_ALLOW", "includes": {"arches": ["arm64"]}},
                  {"name": "close", "action": "SCMP_ACT_ALLOW", "includes": {"minKernel": "6.2"}},
                  {"name": "stat", "action": "SCMP_ACT_ALLOW", "excludes": {"minKernel": "6.2"}}]}
                """)
        #expect(allowed(profile.resolve(capabilities: ["CAP_KILL"], platform: platform, kernel: kernel)) == ["read", "stat"])
        #expect(allowed(profile.resolve(capabilities: [], platform: platform, kernel: KernelVersion(major: 6, minor: 2))) == ["write", "close"])
    }

    @Test(arguments: [
        "", "[]", "{}", #"{"defaultAction": "SCMP_ACT_FLY"}"#,
        #"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "archMap": [{"architecture": "SCMP_ARCH_X86"}]}"#,
        #"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "names": ["b"], "action": "SCMP_ACT_ALLOW"}]}"#,
        #"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"name": "a", "action": "SCMP_ACT_ALLOW", "args": [{"index": 9}]}]}"#,
    ])
    func damagedProfilesAreRefused(_ text: String) { #expect(throws: ApusError.self) { try SeccompProfile(dockerFormat: text) } }
}
