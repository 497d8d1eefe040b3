import Dispatcher
public import PluginAPI
import Raft
import Store
public import Wire

extension ManagerPart {
    /// What the other managers have of a plugin, by node. Those that do not answer are left out.
    public func pluginReports(_ name: String) async -> [ID: PluginReport] {
        var inquiry = PluginInquiry()
        inquiry.name = name
        let own = store.memberID.number
        return await withTaskGroup(of: (ID, PluginReport?).self) { [inquiry, connections] group in
            for member in directory.all where member.memberID != own {
                group.addTask {
                    do throws(DispatcherFailure) {
                        let report: PluginReport = try await LeaderClient.call(
                            ManagersMethods.plugin, inquiry, at: member.address, over: connections, timeout: .seconds(5))
                        return (member.nodeID, report)
                    } catch {
                        switch error.error.code {
                        case .unavailable, .timedOut, .cancelled: return (member.nodeID, nil)
                        default:
                            // Such as an engine that does not know the question.
                            var report = PluginReport()
                            report.problem = error.error.message
                            return (member.nodeID, report)
                        }
                    }
                }
            }
            var reports: [ID: PluginReport] = [:]
            for await (node, report) in group { reports[node] = report }
            return reports
        }
    }
}
