//! Makes a home: for a new mesh, or for a device that joins one.
