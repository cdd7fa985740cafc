//! How content of mesh is cut (and, in later issues, packed and placed). Pure: no files, sockets, clocks or threads.
//!
//! ```text
//! bytes of a file --chunker--> lengths of chunks --(crypto: keyed hash)--> chunk list --(node)--> peers, packs
//! ```
//!
//! What it does not do: name chunks (that is `ownmesh-crypto`'s keyed hash), read files (`ownmesh-node`), know
//! about items and versions (`ownmesh-crdt`).

pub mod chunker;
