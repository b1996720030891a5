//! What a machine and a process are, for whoever asks from afar.

mod hosted;

use std::collections::BTreeMap;

use farref_netref::{Result, remote};
use serde::{Deserialize, Serialize};

use crate::files::{Space, Time};

pub use hosted::share;

/// Facts about a machine and the process that tells them. Nothing can be changed.
#[remote(name = "farref.System")]
pub trait System {
    /// What does not change while the process runs.
    #[reads]
    async fn facts(&self) -> Result<Facts>;

    /// How busy the machine is.
    #[reads]
    async fn usage(&self) -> Result<Usage>;

    /// What is mounted where, without what has no room of its own.
    #[reads]
    async fn disks(&self) -> Result<Vec<Disk>>;

    /// The users that the machine lists itself.
    #[reads]
    async fn users(&self) -> Result<Vec<User>>;

    /// A variable of the environment of the process.
    #[reads]
    async fn variable(&self, name: &str) -> Result<Option<String>>;

    /// All of them; bytes that are not UTF-8 are replaced.
    #[reads]
    async fn variables(&self) -> Result<BTreeMap<String, String>>;

    /// What time it is there.
    #[reads]
    async fn time(&self) -> Result<Time>;

    /// The working directory of the process.
    #[reads]
    async fn working_directory(&self) -> Result<String>;
}

/// What a machine and a process are.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Facts {
    /// The name of the machine.
    pub host_name: String,
    /// The operating system, as [`std::env::consts::OS`] has it.
    pub os: String,
    /// What it calls itself, with a version: `Debian GNU/Linux 13`.
    pub os_name: String,
    /// Name and version of the kernel.
    pub kernel: String,
    /// The processor, as [`std::env::consts::ARCH`] has it.
    pub arch: String,
    /// How many threads run at once.
    pub cpus: u32,
    /// The version of this library.
    pub version: String,
    /// The process.
    pub pid: u32,
    /// Its program.
    pub program: String,
    /// Whose it is, where users have numbers.
    pub uid: Option<u32>,
    /// The name of that user.
    pub user: Option<String>,
}

/// How busy a machine is. What the system does not tell is 0.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Usage {
    /// Seconds since the machine started.
    pub uptime: f64,
    /// Processes that run or wait for a disk: the averages of 1, 5 and 15 minutes.
    pub load: [f64; 3],
    /// Memory of the machine, in bytes.
    pub memory: u64,
    /// What of it can be had.
    pub memory_available: u64,
    /// Room to swap to, in bytes.
    pub swap: u64,
    /// What of it is free.
    pub swap_free: u64,
    /// Memory that this process takes, in bytes.
    pub resident: u64,
}

/// What is mounted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct Disk {
    /// The device, or whatever stands for it.
    pub device: String,
    /// Where it is mounted.
    pub path: String,
    /// The kind of file system.
    pub kind: String,
    /// How much room there is.
    pub space: Space,
}

/// A user of a machine.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[expect(
    clippy::exhaustive_structs,
    reason = "peers read each other's by their shapes"
)]
pub struct User {
    /// The name.
    pub name: String,
    /// The number.
    pub uid: u32,
    /// The number of the first group.
    pub gid: u32,
    /// The full name, and what else is written there.
    pub comment: String,
    /// Where the files of the user are.
    pub home: String,
    /// The program that the user is shown.
    pub shell: String,
}
