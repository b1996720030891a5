//! Containers of Python's that are wanted by value: fetched piece by piece, in batches, within limits.
//!
//! A fetch begins with a value that has references in it. Each that leads to a container is a *node*; what is in it may lead
//! to more. When no request is under way any more, the value is put together.

use std::sync::Arc;

use farref_boxing::{Error, ErrorKind, Result, Value};
use rustc_hash::FxHashMap;

use super::calling::{Pending, link};
use super::data::RECORD;
use super::face::NAMESPACE;
use super::imports::{Imports, gone};
use super::link::Link;
use super::packs::Pack;
use super::wire::{handler, other_than};
use super::{Rpyc, tuple};
use crate::object::{CONTAINER, weigh};
use crate::remote::Import;

/// Containers that are being fetched, and what for.
#[derive(Debug)]
pub(super) struct Fetch {
    goal: Goal,
    root: Value,
    nodes: FxHashMap<u64, Node>,
    /// Requests under way.
    open: usize,
    weight: usize,
}

/// What is done with the value.
#[derive(Debug, Clone, Copy)]
pub(super) enum Goal {
    /// It is the result of a call of ours.
    Call(u64),
    /// It is what a call of the peer's takes.
    Answer(u64),
}

/// One container.
#[derive(Debug)]
struct Node {
    /// Kept from being released meanwhile.
    proxy: Arc<Import>,
    kind: Kind,
    /// So many levels of what is inside are wanted too.
    levels: u8,
    items: Vec<Value>,
    /// Of a dictionary, for each key.
    values: Vec<Option<Value>>,
    /// Of a dictionary, how many were asked for.
    asked: usize,
    /// And how many of them have come.
    there: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// It is used up by being fetched.
    Iterator,
    Sequence,
    Bytes,
    Dict,
    /// Its attributes are what it holds.
    Namespace,
}

/// A container, as what it is fetched, and how many levels of what is inside are wanted.
pub(super) type Found = (Arc<Import>, Kind, u8);

/// What a request of a fetch asks for.
#[derive(Debug, Clone)]
pub(super) enum Step {
    /// The first elements, of a new iteration that nobody keeps.
    First,
    /// An iterator.
    Iterator,
    /// More elements from it.
    More(Arc<Import>),
    /// The names of its attributes.
    Names,
    /// The value of the key or attribute at that place.
    Item(usize),
}

impl Rpyc {
    /// Fetches what is wanted of `value`, and does then what it is for.
    pub(super) fn fetch(&mut self, value: Value, levels: u8, goal: Goal) {
        let mut found = Vec::new();
        containers(&value, levels, &self.imports, &mut found);
        self.fetch_all(value, found, goal);
    }

    /// Fetches these containers, which are in `root`.
    pub(super) fn fetch_all(&mut self, root: Value, found: Vec<Found>, goal: Goal) {
        self.last_fetch = self.last_fetch.wrapping_add(1);
        let number = self.last_fetch;
        self.fetches.insert(
            number,
            Fetch {
                goal,
                root,
                nodes: FxHashMap::default(),
                open: 0,
                weight: 0,
            },
        );
        self.add_nodes(number, found);
        self.end_fetch(number);
    }

    /// Fetches all of an object that somebody wants a copy of, whatever it is.
    pub(super) fn copy(&mut self, call: u64, import: u64) -> Result<(), Error> {
        let kind = kind_of(self.imports.known(import)?).unwrap_or(Kind::Sequence);
        let proxy = self.imports.proxy(import).ok_or_else(gone)?;
        let root = Link::Import(Arc::clone(&proxy)).into_value();
        self.fetch_all(root, vec![(proxy, kind, u8::MAX)], Goal::Call(call));
        Ok(())
    }

    fn add_nodes(&mut self, number: u64, found: Vec<Found>) {
        for (proxy, kind, levels) in found {
            let Some(fetch) = self.fetches.get_mut(&number) else {
                return;
            };
            let id = proxy.id();
            if fetch.nodes.contains_key(&id) {
                continue;
            }
            let node = Node {
                proxy,
                kind,
                levels,
                items: Vec::new(),
                values: Vec::new(),
                asked: 0,
                there: 0,
            };
            fetch.nodes.insert(id, node);
            if kind == Kind::Namespace {
                self.ask_for(number, id, id, handler::DIR, &[], Step::Names);
            } else {
                self.ask_for(number, id, id, handler::BUFFITER, &[FIRST.into()], Step::First);
            }
        }
    }

    /// Asks an iterator for more elements of a node.
    fn ask_for_more(&mut self, number: u64, node: u64, iterator: Arc<Import>) {
        let at = iterator.id();
        let step = Step::More(iterator);
        self.ask_for(number, node, at, handler::BUFFITER, &[BATCH.into()], step);
    }

    /// Sends one request of a fetch: about `import`, for the node.
    fn ask_for(
        &mut self,
        number: u64,
        node: u64,
        import: u64,
        handler: i128,
        arguments: &[Value],
        step: Step,
    ) {
        let pending = Pending::Fetch {
            fetch: number,
            node,
            step,
        };
        match self.send(handler, import, arguments, pending) {
            Ok(()) => {
                if let Some(fetch) = self.fetches.get_mut(&number) {
                    fetch.open = fetch.open.saturating_add(1);
                }
            }
            Err(error) => self.fail_fetch(number, error),
        }
    }

    /// A reply to a request of a fetch came.
    pub(super) fn fetched(&mut self, number: u64, node: u64, step: Step, result: Result<Value>) {
        let Some(fetch) = self.fetches.get_mut(&number) else {
            return self.discard((result.ok(), step_garbage(step)));
        };
        fetch.open = fetch.open.saturating_sub(1);
        let is_wanted = match fetch.goal {
            Goal::Call(call) => self.calls.get(&call).is_some_and(|call| !call.is_over()),
            Goal::Answer(answer) => self.answers.contains_key(&answer),
        };
        if !is_wanted {
            let fetch = self.fetches.remove(&number);
            return self.discard((fetch, result.ok()));
        }
        let value = match result {
            Ok(value) => value,
            Err(error) => return self.fail_fetch(number, error),
        };
        if let Err(error) = self.take_step(number, node, step, value) {
            return self.fail_fetch(number, error);
        }
        self.end_fetch(number);
    }

    fn take_step(&mut self, number: u64, id: u64, step: Step, value: Value) -> Result<()> {
        let Some(fetch) = self.fetches.get_mut(&number) else {
            return Ok(());
        };
        let weight = weigh(&value);
        fetch.weight = fetch.weight.saturating_add(weight);
        if fetch.weight > LARGEST {
            return Err(too_large());
        }
        if let Goal::Answer(answer) = fetch.goal {
            self.weigh_answer(answer, weight)?;
        }
        let Self { fetches, imports, .. } = self;
        let Some(fetch) = fetches.get_mut(&number) else {
            return Ok(());
        };
        let Some(node) = fetch.nodes.get_mut(&id) else {
            return Ok(());
        };
        let levels = node.levels;
        let mut found = Vec::new();
        match (step, value) {
            (Step::Item(place), value) => {
                containers(&value, levels, imports, &mut found);
                if let Some(slot) = node.values.get_mut(place) {
                    *slot = Some(value);
                    node.there = node.there.saturating_add(1);
                }
            }
            (Step::Iterator, value) => {
                let Some(Link::Import(iterator)) = link(&value) else {
                    return Err(other_than("an iterator"));
                };
                // From the beginning again: what came first is not kept by anybody.
                let before = std::mem::take(&mut node.items);
                let iterator = Arc::clone(iterator);
                self.discard(before);
                self.ask_for_more(number, id, iterator);
                return Ok(());
            }
            (Step::Names, Value::Tuple(names)) => {
                let is_field = |name: &Value| name.as_str().is_some_and(|name| !name.starts_with('_'));
                node.items = names.into_iter().filter(is_field).collect();
                self.take_items(number, id, &mut found)?;
            }
            (Step::First, Value::Tuple(items)) => {
                let is_all = items.len() < FIRST;
                node.items = items;
                if !is_all && node.kind == Kind::Iterator {
                    let iterator = Arc::clone(&node.proxy);
                    self.ask_for_more(number, id, iterator);
                    return Ok(());
                }
                if !is_all {
                    let arguments = ["__iter__".into(), tuple([]), tuple([])];
                    self.ask_for(number, id, id, handler::CALLATTR, &arguments, Step::Iterator);
                    return Ok(());
                }
                self.take_items(number, id, &mut found)?;
            }
            (Step::More(iterator), Value::Tuple(items)) => {
                let is_all = items.len() < BATCH;
                node.items.extend(items);
                if !is_all {
                    self.ask_for_more(number, id, iterator);
                    return Ok(());
                }
                self.take_items(number, id, &mut found)?;
            }
            (Step::First | Step::More(_) | Step::Names, _) => return Err(other_than("a batch of elements")),
        }
        self.add_nodes(number, found);
        self.ask_for_values(number, id);
        Ok(())
    }

    /// All elements of a node are there: what else is wanted of them.
    fn take_items(&mut self, number: u64, id: u64, found: &mut Vec<Found>) -> Result<()> {
        let Self { fetches, imports, .. } = self;
        let Some(node) = fetches
            .get_mut(&number)
            .and_then(|fetch| fetch.nodes.get_mut(&id))
        else {
            return Ok(());
        };
        if matches!(node.kind, Kind::Dict | Kind::Namespace) {
            node.values = vec![None; node.items.len()];
            return Ok(());
        }
        for item in &node.items {
            containers(item, node.levels, imports, found);
        }
        Ok(())
    }

    /// Asks for values of a dictionary, some at a time.
    fn ask_for_values(&mut self, number: u64, id: u64) {
        loop {
            let Some(node) = self
                .fetches
                .get_mut(&number)
                .and_then(|fetch| fetch.nodes.get_mut(&id))
            else {
                return;
            };
            if node.asked.saturating_sub(node.there) >= WINDOW {
                return;
            }
            let place = node.asked;
            let Some(key) = node.items.get(place).filter(|_| place < node.values.len()) else {
                return;
            };
            node.asked = place.saturating_add(1);
            if node.kind == Kind::Namespace {
                let arguments = [key.clone()];
                self.ask_for(number, id, id, handler::GETATTR, &arguments, Step::Item(place));
            } else {
                let arguments = ["__getitem__".into(), tuple([key.clone()]), tuple([])];
                self.ask_for(number, id, id, handler::CALLATTR, &arguments, Step::Item(place));
            }
        }
    }

    /// Puts the value together if all is there.
    fn end_fetch(&mut self, number: u64) {
        if self.fetches.get(&number).is_none_or(|fetch| fetch.open > 0) {
            return;
        }
        let Some(fetch) = self.fetches.remove(&number) else {
            return;
        };
        let whole = fetch.assemble(&fetch.root, DEEPEST, &mut { LARGEST });
        let goal = fetch.goal;
        self.discard(fetch);
        self.reach(goal, whole);
    }

    fn fail_fetch(&mut self, number: u64, error: Error) {
        if let Some(fetch) = self.fetches.remove(&number) {
            let goal = fetch.goal;
            self.discard(fetch);
            self.reach(goal, Err(error));
        }
    }

    /// What was fetched for a call of ours is not wanted any more: the peer may never answer.
    pub(super) fn drop_fetch_for(&mut self, call: u64) {
        let is_for = |fetch: &Fetch| matches!(fetch.goal, Goal::Call(of) if of == call);
        let number = self
            .fetches
            .iter()
            .find(|(_, fetch)| is_for(fetch))
            .map(|(number, _)| *number);
        if let Some(fetch) = number.and_then(|number| self.fetches.remove(&number)) {
            self.discard(fetch);
        }
    }

    fn reach(&mut self, goal: Goal, value: Result<Value>) {
        match goal {
            Goal::Call(call) => self.finish(call, value),
            Goal::Answer(answer) => self.take_arguments(answer, value),
        }
    }
}

impl Fetch {
    /// The value with what its containers hold in their places. One that is in several places is there several times: `room`
    /// is what is left of the bytes that all of it may take.
    fn assemble(&self, value: &Value, levels: u32, room: &mut usize) -> Result<Value> {
        let own = match value {
            Value::Tuple(_) => size_of::<Value>(),
            other => weigh(other),
        };
        *room = room.checked_sub(own).ok_or_else(too_large)?;
        let deeper = || {
            levels.checked_sub(1).ok_or_else(|| {
                let text = "the peer's containers are inside each other too deeply, or in themselves";
                Error::new(ErrorKind::Limit, text)
            })
        };
        Ok(match value {
            Value::Tuple(items) => {
                let levels = deeper()?;
                let items: Result<_> = items
                    .iter()
                    .map(|item| self.assemble(item, levels, room))
                    .collect();
                Value::Tuple(items?)
            }
            Value::Reference(_) => match link(value) {
                Some(Link::Import(proxy)) => match self.nodes.get(&proxy.id()) {
                    Some(node) => self.assemble_node(node, deeper()?, room)?,
                    None => value.clone(),
                },
                _ => value.clone(),
            },
            plain => plain.clone(),
        })
    }

    fn assemble_node(&self, node: &Node, levels: u32, room: &mut usize) -> Result<Value> {
        *room = room.checked_sub(CONTAINER).ok_or_else(too_large)?;
        let items: Result<Vec<Value>> = node
            .items
            .iter()
            .map(|item| self.assemble(item, levels, room))
            .collect();
        let items = items?;
        Ok(match node.kind {
            Kind::Dict | Kind::Namespace => {
                let values = node.values.iter().map(|value| match value {
                    Some(value) => self.assemble(value, levels, room),
                    None => Err(other_than("the value of a key")),
                });
                let values: Result<Vec<Value>> = values.collect();
                Value::Map(items.into_iter().zip(values?).collect())
            }
            Kind::Bytes => {
                let bytes: Option<Vec<u8>> = items
                    .iter()
                    .map(|item| item.as_u64().and_then(|byte| u8::try_from(byte).ok()))
                    .collect();
                bytes.map_or(Value::List(items), Value::bytes)
            }
            Kind::Sequence | Kind::Iterator => Value::List(items),
        })
    }
}

/// The containers in a value of which so many levels are wanted.
pub(super) fn containers(value: &Value, levels: u8, imports: &Imports, found: &mut Vec<Found>) {
    match value {
        Value::Tuple(items) => {
            for item in items {
                containers(item, levels, imports, found);
            }
        }
        Value::Reference(_) => {
            let Some(inside) = levels.checked_sub(1) else {
                return;
            };
            if let Some(Link::Import(proxy)) = link(value)
                && let Some(kind) = imports.pack(proxy.id()).and_then(kind_of)
            {
                let inside = if levels == u8::MAX { levels } else { inside };
                found.push((Arc::clone(proxy), kind, inside));
            }
        }
        _ => {}
    }
}

/// What a class of Python's that holds others is fetched as. Objects of other classes stay where they are.
fn kind_of(pack: &Pack) -> Option<Kind> {
    Some(match &*pack.name {
        "builtins.list"
        | "builtins.set"
        | "builtins.frozenset"
        | "builtins.tuple"
        | "builtins.range"
        | "builtins.dict_keys"
        | "builtins.dict_values"
        | "builtins.dict_items"
        | "collections.deque"
        | "array.array" => Kind::Sequence,
        "builtins.dict"
        | "builtins.mappingproxy"
        | "collections.OrderedDict"
        | "collections.defaultdict"
        | "collections.Counter" => Kind::Dict,
        "builtins.generator" | "builtins.map" | "builtins.filter" | "builtins.zip" | "builtins.enumerate"
        | "builtins.reversed" => Kind::Iterator,
        name if name.starts_with("builtins.") && name.ends_with("iterator") => Kind::Iterator,
        name if name.starts_with("itertools.") => Kind::Iterator,
        // Farref's objects have that name too, as long as they are no structs: their classes have small numbers.
        NAMESPACE if pack.class == RECORD.into() || pack.class > u32::MAX.into() => Kind::Namespace,
        "builtins.bytearray" | "builtins.memoryview" => Kind::Bytes,
        _ => return None,
    })
}

fn step_garbage(step: Step) -> Option<Arc<Import>> {
    match step {
        Step::More(iterator) => Some(iterator),
        _ => None,
    }
}

fn too_large() -> Error {
    let text = format!("the peer's containers take more than {} MiB", LARGEST >> 20);
    Error::new(ErrorKind::Limit, text)
}

/// Elements that are asked for first: most containers have fewer, and one request is all then.
const FIRST: usize = 512;
/// Elements that are asked for at once, if there are more.
const BATCH: usize = 4096;
/// Values of a dictionary that are asked for at once.
const WINDOW: usize = 64;
/// What is fetched for one value, at most, in bytes.
const LARGEST: usize = 64 << 20;
/// Containers inside each other, at most.
const DEEPEST: u32 = 64;
