//! What the engine tells people and scripts while it runs; nothing waits for it.

/// Something people or scripts may want to hear of.
#[derive(Clone, Debug, serde::Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Notice {
    /// A device connected.
    Connected {
        /// Its name.
        device: String,
    },
    /// A device went away.
    Disconnected {
        /// Its name.
        device: String,
    },
    /// A space changed its state.
    Space {
        /// Its name.
        space: String,
        /// Its state.
        state: String,
    },
    /// Files changed here by others.
    Updated {
        /// The space's name.
        space: String,
        /// How many items.
        items: u64,
    },
    /// A conflict appeared.
    Conflict {
        /// The space's name.
        space: String,
    },
    /// Something needs attention.
    Trouble {
        /// What.
        kind: String,
        /// In words.
        message: String,
    },
    /// A device joined the mesh.
    Paired {
        /// Its name.
        device: String,
    },
}
