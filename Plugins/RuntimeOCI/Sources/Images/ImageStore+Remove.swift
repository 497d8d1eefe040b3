import PluginAPI
import Synchronization

extension ImageStore {
    /// Gives an image one more name, taken from another image if it has it.
    package func tag(source: String, target: String) async throws(ApusError) {
        let reference = try ImageReference(target)
        guard reference.digest == nil else { throw ApusError(.invalidArgument, "\(target) has a digest; a tag is a name and a tag: name:tag") }
        let id = try image(source).id.text
        try await name(id, [reference])
    }

    /// Removes one reference, and with the last one the image; or an image with all its references, by id.
    ///
    /// While containers use the image that is a `conflict`, unless forced: then it is no longer shown, and its layers go with the last container.
    package func remove(_ request: RemoveImageRequest) async throws(ApusError) -> RemoveImageAnswer {
        let plan = try state.withLock { (state) throws(ApusError) in try Self.plan(request, &state) }
        defer { state.withLock { _ = $0.leaving.remove(plan.id) } }
        return try await onBlockingThread { [self] () throws(ApusError) in
            var answer = RemoveImageAnswer(untagged: plan.references.map(\.description))
            try commit { (index, before) throws(ApusError) in
                for reference in plan.references { index.references[reference.canonical] = nil }
                guard plan.isWhole else { return }
                if before.holders.values.contains(plan.id) {
                    index.images[plan.id]?.isHidden = true
                    index.references = index.references.filter { $0.value != plan.id }
                    index.manifests = index.manifests.filter { $0.value != plan.id }
                } else {
                    index.removeImage(plan.id)
                }
            }
            if plan.isWhole {
                answer.deleted = [plan.id]
                answer.deleted += try collectGarbageNow()
            }
            return answer
        }
    }

    private struct Plan: Sendable {
        var id: String
        /// To be taken away.
        var references: [ImageReference]
        /// The image goes too.
        var isWhole: Bool
    }

    private static func plan(_ request: RemoveImageRequest, _ state: inout State) throws(ApusError) -> Plan {
        let id = try resolve(request.reference, in: state)
        let all = state.index.references(of: id)
        var plan = Plan(id: id, references: all, isWhole: true)
        if let named = try? ImageReference(request.reference).withoutRedundantTag, state.index.references[named.canonical] == id {
            // Digests of the same repository are of no use without its last tag.
            let others = all.filter { $0 != named && ($0.digest == nil || $0.familiarName != named.familiarName) }
            let remaining = others.filter { other in
                other.digest == nil || all.contains { $0 != named && $0.digest == nil && $0.familiarName == other.familiarName }
            }
            plan.isWhole = remaining.isEmpty
            let keepsRepository = remaining.contains { $0.familiarName == named.familiarName }
            plan.references =
                plan.isWhole ? all : all.filter { $0 == named || !keepsRepository && $0.digest != nil && $0.familiarName == named.familiarName }
        } else if Set(all.map(\.familiarName)).count > 1, !request.force {
            let names = all.filter { $0.digest == nil }.map(\.description).joined(separator: ", ")
            throw ApusError(.conflict, "image \(id.dropFirst(7).prefix(12)) has several names (\(names)); remove them one by one, or force it")
        }
        guard plan.isWhole else { return plan }
        let holders = state.holders.filter { $0.value == id }.keys.sorted()
        if let holder = holders.first, !request.force {
            let more = holders.count > 1 ? " and \(holders.count - 1) more" : ""
            throw ApusError(
                .conflict, "image \(request.reference) is used by container \(holder.short)\(more); remove the container first, or force it")
        }
        guard state.leaving.insert(id).inserted else { throw ApusError(.conflict, "image \(request.reference) is being removed already") }
        return plan
    }
}
