public import PluginAPI

extension RuntimeOCI {
    /// The runtime as the engine makes it, with the image store in the plugin's state folder.
    ///
    /// Blocks: it reads what is on disk, and takes the containers of an earlier engine back.
    public convenience init(host: any HostServices) throws(ApusError) {
        let store = try ImageStore(configuration: ImageStoreConfiguration(host: host))
        try self.init(host: host, images: store)
        // The store does not remember who uses its images.
        for record in records { _ = try? store.acquire(record.configuration.imageID, for: record.id) }
    }
}
