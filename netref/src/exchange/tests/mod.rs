//! The exchange under test, rule by rule; under random schedules it is in [`model`](super::model).

mod bodies;
mod calls;
mod hostile;
mod kit;
mod limits;
mod order;
mod references;
mod sessions;
mod shapes;
mod traces;
