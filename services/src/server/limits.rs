//! Bounds of a server, and its numbers.

/// Bounds of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerLimits {
    /// Connections at once; more are closed as they come. Default 1,024, at least 1.
    pub connections: usize,
    /// Connections that have not introduced themselves yet, at once. Default 512, at least 1.
    pub opening: u64,
    /// Those of them that one address of a network may have: one IPv4 address, or the first 64 bits of an IPv6 one.
    /// Default 128, at least 1.
    pub opening_per_source: u64,
}

impl Default for ServerLimits {
    fn default() -> Self {
        Self {
            connections: 1024,
            opening: 512,
            opening_per_source: 128,
        }
    }
}

/// Numbers of a server.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerStats {
    /// Connections that are open.
    pub connections: usize,
    /// Connections that are being set up.
    pub opening: u64,
    /// Carriers accepted since the start.
    pub accepted: u64,
    /// Of these, those that were turned away: by a limit, by the service, or since they spoke something else.
    pub refused: u64,
}
