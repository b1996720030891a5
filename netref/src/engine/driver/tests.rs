//! What a driver takes of memory: each idle connection has one.

use farref_framing::Role;
use farref_transport::memory;

use super::*;
use crate::engine::testing::undriven;

#[tokio::test]
async fn the_task_of_a_driver_is_small() {
    let core = undriven(memory::pair(64).0, Role::Listener).await;
    let mut driver = Driver::new(core, 0);
    let own = size_of_val(&driver);
    let task = own + size_of_val(&driver.drive());
    // An async function in it that awaits another takes 32 more, and the allocator four times that.
    assert!(task <= 264, "{task} bytes, {own} of them its own");
}
