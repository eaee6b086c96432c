//! Which tensors are values of nodes: candle hides a tensor's op, so they are looked up, by id and by the address of their
//! storage. An entry is removed with its tensor.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use candle_core::{Storage, Tensor, TensorId};

use super::node::Node;

#[derive(Default)]
struct Registry {
    nodes: HashMap<TensorId, Weak<Node>>,
    /// The value that owns the storage at an address.
    owners: HashMap<usize, TensorId>,
}

/// One for all threads: a graph may be built on several, and walked on another.
static REGISTRY: LazyLock<Mutex<Registry>> = LazyLock::new(Mutex::default);

fn registry() -> MutexGuard<'static, Registry> {
    // No entry is ever half made.
    REGISTRY.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Where a value's entries are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    id: TensorId,
    address: usize,
}

/// Enters the value of `node`.
pub(super) fn enter(value: &Tensor, node: &Arc<Node>) -> Entry {
    let entry = Entry { id: value.id(), address: address(value) };
    let mut registry = registry();
    registry.nodes.insert(entry.id, Arc::downgrade(node));
    registry.owners.insert(entry.address, entry.id);
    entry
}

/// Removes a value that is being released. Its storage may be gone already, and another value at its address.
pub(super) fn remove(entry: Entry) {
    let mut registry = registry();
    registry.nodes.remove(&entry.id);
    if registry.owners.get(&entry.address) == Some(&entry.id) {
        registry.owners.remove(&entry.address);
    }
}

/// The node whose value has this id.
pub(super) fn node(id: TensorId) -> Option<Arc<Node>> {
    registry().nodes.get(&id).and_then(Weak::upgrade)
}

impl Node {
    /// The node whose value `tensor` is; none for a view of one, a variable, a constant or a result of candle's.
    pub fn of(tensor: &Tensor) -> Option<Arc<Self>> {
        node(tensor.id())
    }
}

/// The nodes whose values are among `tensors`.
pub(super) fn nodes(tensors: &[&Tensor]) -> Vec<Arc<Node>> {
    let registry = registry();
    tensors.iter().filter_map(|tensor| registry.nodes.get(&tensor.id()).and_then(Weak::upgrade)).collect()
}

/// The value that a tensor may be a view of, by its storage: its id and node.
pub(super) fn owner(tensor: &Tensor) -> Option<(TensorId, Arc<Node>)> {
    let address = address(tensor);
    let registry = registry();
    let id = *registry.owners.get(&address)?;
    Some((id, registry.nodes.get(&id)?.upgrade()?))
}

/// Where a tensor's storage is: equal for views of each other.
pub(super) fn address(tensor: &Tensor) -> usize {
    let (storage, _) = tensor.storage_and_layout();
    std::ptr::from_ref::<Storage>(&storage).addr()
}
