//! The role table at one version, indexed for decisions. Immutable: a change makes a new one.

use std::{collections::HashMap, sync::Arc};

use super::{
    account::Account,
    grant::{Grant, Principal, Role},
    ids::{AccountName, ContainerName, RoleName},
    permission::PermissionSet,
};

/// The roles that exist without being declared; the table may not redefine them.
const BUILT_IN: [(&str, &[u8]); 4] = [
    ("reader", b"rl"),
    ("contributor", b"racwdl"),
    ("uploader", b"cw"),
    ("auditor", b"l"),
];

/// The built-in roles: `reader`, `contributor`, `uploader` and `auditor`.
///
/// # Panics
/// Never: the names are valid.
#[must_use]
pub fn built_in_roles() -> Vec<Role> {
    let role = |(name, letters): (&str, &[u8])| Role {
        name: name.parse().expect("a valid role name"),
        permissions: PermissionSet::of(letters),
        lifetime_seconds_max: None,
        bind_to_caller: false,
        require_ip: false,
    };
    BUILT_IN.into_iter().map(role).collect()
}

/// What the table says, as the storage adapters load it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PolicyTable {
    /// The counter that every change raises.
    pub version: i64,
    /// All managed accounts.
    pub accounts: Vec<Account>,
    /// Declared roles, without the built-in ones.
    pub roles: Vec<Role>,
    /// All grants.
    pub grants: Vec<Grant>,
    /// How often the delegation keys of an account were dropped; accounts without an entry never.
    pub key_generations: HashMap<AccountName, i64>,
}

type Place = (AccountName, ContainerName);

/// The same, indexed.
#[derive(Debug, Default)]
pub struct Snapshot {
    version: i64,
    accounts: HashMap<AccountName, Arc<Account>>,
    roles: HashMap<RoleName, Arc<Role>>,
    key_generations: HashMap<AccountName, i64>,
    by_principal: HashMap<Principal, HashMap<Place, Vec<Arc<Grant>>>>,
    /// Group grants once more by place: what a caller of unknown groups might have.
    groups_by_place: HashMap<Place, Vec<Arc<Grant>>>,
}

impl Snapshot {
    /// Indexes a table. Built-in roles are added.
    #[must_use]
    pub fn new(table: PolicyTable) -> Self {
        let roles = built_in_roles().into_iter().chain(table.roles);
        let mut snapshot = Self {
            version: table.version,
            accounts: table
                .accounts
                .into_iter()
                .map(|a| (a.name.clone(), Arc::new(a)))
                .collect(),
            roles: roles
                .map(|role| (role.name.clone(), Arc::new(role)))
                .collect(),
            key_generations: table.key_generations,
            ..Self::default()
        };
        for grant in table.grants {
            snapshot.index(Arc::new(grant));
        }
        snapshot
    }

    fn index(&mut self, grant: Arc<Grant>) {
        let place = (grant.scope.account.clone(), grant.scope.container.clone());
        if matches!(grant.principal, Principal::Group { .. }) {
            self.groups_by_place
                .entry(place.clone())
                .or_default()
                .push(Arc::clone(&grant));
        }
        let places = self
            .by_principal
            .entry(grant.principal.clone())
            .or_default();
        places.entry(place).or_default().push(grant);
    }

    /// The table's version.
    #[must_use]
    pub const fn version(&self) -> i64 {
        self.version
    }

    /// A managed account.
    #[must_use]
    pub fn account(&self, name: &AccountName) -> Option<&Arc<Account>> {
        self.accounts.get(name)
    }

    /// Whether this is an account whose keys are rotated.
    #[must_use]
    pub fn is_rotated(&self, name: &AccountName) -> bool {
        let account = self.account(name);
        account.is_some_and(|account| account.rotation.is_some())
    }

    /// The generation of an account's delegation keys: a token signed by a key of an older one is
    /// not released.
    #[must_use]
    pub fn key_generation(&self, account: &AccountName) -> i64 {
        self.key_generations.get(account).copied().unwrap_or(0)
    }

    /// All managed accounts, in no order.
    pub fn accounts(&self) -> impl Iterator<Item = &Arc<Account>> {
        self.accounts.values()
    }

    /// A role, built-in or declared.
    #[must_use]
    pub fn role(&self, name: &RoleName) -> Option<&Arc<Role>> {
        self.roles.get(name)
    }

    /// Grants of one principal in one container.
    #[must_use]
    pub fn grants_at(&self, principal: &Principal, place: &Place) -> &[Arc<Grant>] {
        let places = self.by_principal.get(principal);
        places
            .and_then(|places| places.get(place))
            .map_or(&[], Vec::as_slice)
    }

    /// All grants of one principal, in no order.
    pub fn grants_of(&self, principal: &Principal) -> impl Iterator<Item = &Arc<Grant>> {
        self.by_principal
            .get(principal)
            .into_iter()
            .flat_map(|places| places.values().flatten())
    }

    /// Group grants in one container, whoever the group is.
    #[must_use]
    pub fn group_grants_at(&self, place: &Place) -> &[Arc<Grant>] {
        self.groups_by_place.get(place).map_or(&[], Vec::as_slice)
    }
}
