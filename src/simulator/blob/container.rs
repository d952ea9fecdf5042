//! The stored state: accounts, containers, blobs and directories, in memory.
//!
//! Knows names, bytes and times; nothing of HTTP and nothing of tokens. The listing order is the
//! byte order of the names, as Azure's is.

use std::collections::BTreeMap;

use actix_web::web::Bytes;
use time::OffsetDateTime;
use uuid::Uuid;

use super::super::arm::Resource;
use super::super::spec::{AccountSpec, RoleAssignment};
use super::delegation_key::DelegationKeys;
use super::errors::{BlobError, Code};
use super::sas::Letters;

/// Largest blob, in bytes; also the largest request body. Azure takes far more; this lives in
/// memory on a laptop.
pub(crate) const BLOB_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Bytes one account may hold before clients are told that the service is busy: what a laptop
/// can spare.
const ACCOUNT_BYTES_MAX: usize = 1024 * 1024 * 1024;

/// One storage account.
pub(crate) struct Account {
    pub(crate) tenant_id: Uuid,
    pub(crate) hierarchical_namespace: bool,
    pub(crate) allow_cross_tenant_delegation_sas: bool,
    pub(crate) role_assignments: Vec<RoleAssignment>,
    pub(crate) containers: BTreeMap<String, Container>,
    pub(crate) delegation_keys: DelegationKeys,
    /// The side of it that ARM manages; its keys and switches count here, too.
    pub(crate) resource: Resource,
    writes: u64,
}

impl Account {
    pub(crate) fn new(spec: AccountSpec, now: OffsetDateTime) -> Self {
        let hierarchical = spec.hierarchical_namespace;
        let resource = Resource::new(&spec.name, hierarchical, spec.management, now);
        let mut account = Self {
            resource,
            tenant_id: spec.tenant_id,
            hierarchical_namespace: spec.hierarchical_namespace,
            allow_cross_tenant_delegation_sas: spec.allow_cross_tenant_delegation_sas,
            role_assignments: spec.role_assignments,
            containers: BTreeMap::new(),
            delegation_keys: DelegationKeys::default(),
            writes: 0,
        };
        for name in spec.containers {
            account.create_container(name, now);
        }
        account
    }

    /// Makes an empty container, unless it exists.
    pub(crate) fn create_container(&mut self, name: String, now: OffsetDateTime) {
        self.containers
            .entry(name)
            .or_insert_with(|| Container::new(now));
    }

    /// Letters that a principal's roles give it on a container.
    pub(crate) fn rights(&self, principal: Uuid, container: &str) -> Letters {
        self.role_assignments
            .iter()
            .filter(|given| given.principal == principal)
            .filter(|given| {
                given
                    .container
                    .as_deref()
                    .is_none_or(|name| name == container)
            })
            .fold(Letters::NONE, |all, given| {
                all.union(Letters::of_role(given.role))
            })
    }

    /// Whether the principal may fetch a user delegation key. Every built-in data role holds that
    /// action, but it counts only when assigned on the account.
    pub(crate) fn may_fetch_key(&self, principal: Uuid) -> bool {
        self.role_assignments
            .iter()
            .any(|given| given.principal == principal && given.container.is_none())
    }

    /// Refuses a write that would take the account over its size.
    pub(crate) fn demand_room(&self, bytes: usize) -> Result<(), BlobError> {
        let held: usize = self.containers.values().map(Container::len).sum();
        if held + bytes > ACCOUNT_BYTES_MAX {
            Err(Code::ServerBusy.into())
        } else {
            Ok(())
        }
    }

    pub(crate) fn container(&self, name: &str) -> Result<&Container, BlobError> {
        self.containers
            .get(name)
            .ok_or_else(|| Code::ContainerNotFound.into())
    }

    pub(crate) fn container_mut(&mut self, name: &str) -> Result<&mut Container, BlobError> {
        self.containers
            .get_mut(name)
            .ok_or_else(|| Code::ContainerNotFound.into())
    }

    /// An entry of this content, stamped with a fresh ETag.
    pub(crate) fn entry(
        &mut self,
        content: Content,
        properties: Properties,
        now: OffsetDateTime,
    ) -> Entry {
        self.writes += 1;
        let etag = format!("\"0x8DE{:012X}\"", self.writes);
        Entry {
            content,
            properties,
            etag,
            created: now,
            modified: now,
        }
    }

    /// Stores an entry, and with a hierarchical namespace the directories above it.
    pub(crate) fn store(
        &mut self,
        container: &str,
        path: &str,
        mut entry: Entry,
        now: OffsetDateTime,
    ) -> Result<(), BlobError> {
        let mut parents = Vec::new();
        if self.hierarchical_namespace {
            for (at, _) in path.match_indices('/') {
                parents.push(path[..at].to_owned());
            }
        }
        for parent in parents {
            if !self.container(container)?.entries.contains_key(&parent) {
                let directory = self.entry(Content::Directory, Properties::default(), now);
                self.container_mut(container)?
                    .entries
                    .insert(parent, directory);
            }
        }
        let container = self.container_mut(container)?;
        container.staged.remove(path);
        if let Some(before) = container.entries.get(path) {
            entry.created = before.created;
        }
        container.entries.insert(path.to_owned(), entry);
        Ok(())
    }
}

/// One container (file system).
pub(crate) struct Container {
    pub(crate) created: OffsetDateTime,
    pub(crate) entries: BTreeMap<String, Entry>,
    /// Uploaded but not yet committed bytes, by path.
    pub(crate) staged: BTreeMap<String, Staged>,
}

impl Container {
    fn new(created: OffsetDateTime) -> Self {
        Self {
            created,
            entries: BTreeMap::new(),
            staged: BTreeMap::new(),
        }
    }

    /// Bytes held, staged ones included.
    fn len(&self) -> usize {
        let stored: usize = self.entries.values().map(|entry| entry.bytes().len()).sum();
        stored + self.staged.values().map(Staged::len).sum::<usize>()
    }

    /// Whether anything lies below this directory.
    pub(crate) fn has_children(&self, path: &str) -> bool {
        let below = format!("{path}/");
        self.entries
            .range(below.clone()..)
            .next()
            .is_some_and(|(name, _)| name.starts_with(&below))
    }

    /// Removes an entry and everything below it.
    pub(crate) fn remove_tree(&mut self, path: &str) {
        let below = format!("{path}/");
        self.entries
            .retain(|name, _| name != path && !name.starts_with(&below));
        self.staged
            .retain(|name, _| name != path && !name.starts_with(&below));
    }
}

/// Bytes that wait for Put Block List or Flush.
#[derive(Default)]
pub(crate) struct Staged {
    /// Blocks by their id.
    pub(crate) blocks: BTreeMap<String, Bytes>,
    /// Bytes appended on the dfs endpoint after what is committed.
    pub(crate) appended: Vec<u8>,
}

impl Staged {
    /// Bytes held here.
    pub(crate) fn len(&self) -> usize {
        self.appended.len() + self.blocks.values().map(Bytes::len).sum::<usize>()
    }
}

/// One stored name.
#[derive(Clone)]
pub(crate) struct Entry {
    pub(crate) content: Content,
    pub(crate) properties: Properties,
    /// With its quotes.
    pub(crate) etag: String,
    pub(crate) created: OffsetDateTime,
    pub(crate) modified: OffsetDateTime,
}

impl Entry {
    /// The bytes; a directory has none.
    pub(crate) fn bytes(&self) -> Bytes {
        match &self.content {
            Content::File(bytes) => bytes.clone(),
            Content::Directory => Bytes::new(),
        }
    }

    pub(crate) fn is_directory(&self) -> bool {
        matches!(self.content, Content::Directory)
    }
}

/// A blob's bytes, or a directory.
#[derive(Clone)]
pub(crate) enum Content {
    File(Bytes),
    Directory,
}

/// Headers and metadata kept with a blob: lower-case name and value.
#[derive(Clone, Default)]
pub(crate) struct Properties {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) metadata: Vec<(String, String)>,
}

impl Properties {
    /// A stored header, or the empty text.
    pub(crate) fn header(&self, name: &str) -> &str {
        let found = self.headers.iter().find(|(known, _)| known == name);
        found.map_or("", |(_, value)| value)
    }
}
