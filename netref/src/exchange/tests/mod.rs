//! The exchange under test: rule by rule, then under random schedules.

mod bodies;
mod calls;
mod hostile;
mod kit;
mod limits;
mod model;
mod order;
mod references;
mod sessions;
mod shapes;
mod traces;
