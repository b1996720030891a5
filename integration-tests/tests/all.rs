//! What farref promises, through its public API, over every medium.
#![cfg(test)]

#[cfg(unix)]
#[path = "all/admission.rs"]
mod admission;
#[cfg(unix)]
#[path = "all/bounds.rs"]
mod bounds;
#[path = "all/by_name.rs"]
mod by_name;
#[path = "all/callbacks.rs"]
mod callbacks;
#[path = "all/calls.rs"]
mod calls;
#[path = "all/cancel.rs"]
mod cancel;
#[path = "all/channels.rs"]
mod channels;
#[cfg(unix)]
#[path = "all/classic_mode.rs"]
mod classic_mode;
#[path = "all/connections.rs"]
mod connections;
#[path = "all/cuts.rs"]
mod cuts;
#[cfg(unix)]
#[path = "all/deploy.rs"]
mod deploy;
#[path = "all/dynamic_values.rs"]
mod dynamic_values;
#[path = "all/ends.rs"]
mod ends;
#[path = "all/escapes.rs"]
mod escapes;
#[path = "all/far_files.rs"]
mod far_files;
#[cfg(unix)]
#[path = "all/far_processes.rs"]
mod far_processes;
#[cfg(unix)]
#[path = "all/far_serial.rs"]
mod far_serial;
#[path = "all/files.rs"]
mod files;
#[cfg(unix)]
#[path = "all/forwarding.rs"]
mod forwarding;
#[path = "all/guards.rs"]
mod guards;
#[path = "all/holdings.rs"]
mod holdings;
#[path = "all/iterators.rs"]
mod iterators;
#[path = "all/leading.rs"]
mod leading;
#[cfg(unix)]
#[path = "all/lines.rs"]
mod lines;
#[path = "all/manners.rs"]
mod manners;
#[path = "all/monitoring.rs"]
mod monitoring;
#[path = "all/names.rs"]
mod names;
#[path = "all/objects.rs"]
mod objects;
#[path = "all/order.rs"]
mod order;
#[path = "all/outcomes.rs"]
mod outcomes;
#[path = "all/pipelining.rs"]
mod pipelining;
#[cfg(unix)]
#[path = "all/policy_files.rs"]
mod policy_files;
#[cfg(unix)]
#[path = "all/processes.rs"]
mod processes;
#[cfg(unix)]
#[path = "all/programs.rs"]
mod programs;
#[cfg(unix)]
#[path = "all/python_peers.rs"]
mod python_peers;
#[path = "all/reconnecting.rs"]
mod reconnecting;
#[path = "all/relays.rs"]
mod relays;
#[path = "all/resuming.rs"]
mod resuming;
#[path = "all/returning.rs"]
mod returning;
#[cfg(unix)]
#[path = "all/rpyc_clients.rs"]
mod rpyc_clients;
#[cfg(unix)]
#[path = "all/rpyc_edges.rs"]
mod rpyc_edges;
#[cfg(unix)]
#[path = "all/rpyc_servers.rs"]
mod rpyc_servers;
#[path = "all/scenario.rs"]
mod scenario;
#[path = "all/seeds.rs"]
mod seeds;
#[path = "all/servers.rs"]
mod servers;
#[path = "all/sessions.rs"]
mod sessions;
#[path = "all/soaking.rs"]
mod soaking;
#[cfg(unix)]
#[path = "all/ssh.rs"]
mod ssh;
#[path = "all/streams.rs"]
mod streams;
#[path = "all/stress.rs"]
mod stress;
#[path = "all/third_parties.rs"]
mod third_parties;
#[path = "all/threads.rs"]
mod threads;
#[path = "all/trust.rs"]
mod trust;
#[path = "all/values.rs"]
mod values;
#[path = "all/versions.rs"]
mod versions;
