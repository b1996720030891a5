//! Passing on: calls to a far object that was handed to a third process through this one.

use std::sync::Arc;

use farref_boxing::{Error, ErrorKind};

use crate::chain;
use crate::interface::Interface;
use crate::invocation::{Dispatched, Invocation};
use crate::protocol::Op;
use crate::remote::Remote;

/// A call is passed on at most that many times: a relay that leads back to itself ends here (PROTOCOL.md § 7.7).
const MAX_HOPS: u8 = 32;

/// Passes a call on as it is, in the order in which calls come. The answer comes back by itself.
pub(crate) fn forward(
    remote: &Arc<dyn Remote>,
    interface: Option<&'static Interface>,
    invocation: Invocation,
) -> Dispatched {
    // The host checks against what it handed out to us; we check against what we handed on, which may be less.
    let mut invocation = invocation;
    if let Some(handed_on) = interface {
        let is_less = remote
            .imported()
            .is_some_and(|imported| imported.interface != handed_on.id);
        match &invocation.request.op {
            Op::Method { interface, .. } if handed_on.find(*interface).is_none() => {
                return invocation.refuse(handed_on);
            }
            Op::Method { .. } => {}
            // By name there is no telling what the host would take it for (PROTOCOL.md § 13.6).
            op if is_less => match handed_on.find_for(op) {
                Some((of, _)) => invocation.qualify(of),
                None => return invocation.refuse(handed_on),
            },
            _ => {}
        }
    }
    if let Some(object) = Arc::clone(remote).exported() {
        return object.dispatch(invocation);
    }
    if invocation.request.options.hops >= MAX_HOPS {
        let error = Error::new(
            ErrorKind::Loop,
            format!("the call was passed on {MAX_HOPS} times"),
        );
        invocation.fail(error, false);
        return Dispatched::Done;
    }
    if let Err(error) = invocation.encode() {
        invocation.fail(error, false);
        return Dispatched::Done;
    }
    let mut options = invocation.request.options.clone();
    options.hops = options.hops.saturating_add(1);
    // One deeper: whoever passes a call on is admitted by the allowance for nested calls, or tight limits on both
    // sides of the relay could wait for each other (PROTOCOL.md § 7.7).
    options.chain = Some(
        options
            .chain
            .map_or_else(|| chain::nested(chain::fresh()), chain::nested),
    );
    Arc::clone(remote.conduit()).forward(remote.target(), options, invocation);
    Dispatched::Done
}
