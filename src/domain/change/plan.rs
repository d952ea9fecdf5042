//! From a document and the table as it stands to the edits between them. Every problem of a document
//! is reported, not only the first.

use std::{
    collections::{HashMap, HashSet},
    fmt,
};

use super::ChangeSet;
use crate::domain::{
    cloud::Cloud,
    document::{ENTRIES_MAX, GrantEntry, PolicyDocument},
    grant::{Effect, Grant, Principal, Scope},
    ids::{AccountName, GrantId, RoleName},
    snapshot::{PolicyTable, built_in_roles},
};

/// One thing wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Where, such as `grants[3].role`.
    pub at: String,
    /// What is wrong, and what would be right.
    pub what: String,
}

/// Everything wrong with a document; it changes nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlanError(pub Vec<Problem>);

impl fmt::Display for PlanError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(
                f,
                "{}{}: {}",
                if i > 0 { "\n" } else { "" },
                problem.at,
                problem.what
            )?;
        }
        Ok(())
    }
}

impl std::error::Error for PlanError {}

/// Plans the edits that turn `table` into what `document` says. `new_id` makes the ids of new grants.
///
/// # Errors
/// [`PlanError`] lists every entry that is invalid, refers to nothing, or stands twice.
pub fn plan(
    table: &PolicyTable,
    document: PolicyDocument,
    cloud: &Cloud,
    new_id: impl FnMut() -> GrantId,
) -> Result<ChangeSet, PlanError> {
    let problems = check(table, &document, cloud);
    if !problems.is_empty() {
        return Err(PlanError(problems));
    }
    let accounts: HashMap<_, _> = table.accounts.iter().map(|a| (&a.name, a)).collect();
    let roles: HashMap<_, _> = table.roles.iter().map(|r| (&r.name, r)).collect();
    let named_accounts: HashSet<_> = document.accounts.iter().map(|a| a.name.clone()).collect();
    let named_roles: HashSet<_> = document.roles.iter().map(|r| r.name.clone()).collect();
    let mut changes = ChangeSet {
        based_on: table.version,
        ..ChangeSet::default()
    };
    changes.put_accounts = document
        .accounts
        .into_iter()
        .filter(|a| accounts.get(&a.name) != Some(&a))
        .collect();
    changes.put_roles = document
        .roles
        .into_iter()
        .filter(|r| roles.get(&r.name) != Some(&r))
        .collect();
    changes.drop_accounts = accounts
        .into_keys()
        .filter(|name| !named_accounts.contains(*name))
        .cloned()
        .collect();
    changes.drop_roles = roles
        .into_keys()
        .filter(|name| !named_roles.contains(*name))
        .cloned()
        .collect();
    changes.drop_accounts.sort();
    changes.drop_roles.sort();
    plan_grants(table, document.grants, new_id, &mut changes);
    Ok(changes)
}

type Natural = (Principal, RoleName, Scope, Effect);

fn natural(entry: &GrantEntry) -> Natural {
    (
        entry.principal.clone(),
        entry.role.clone(),
        entry.scope.clone(),
        entry.effect,
    )
}

fn plan_grants(
    table: &PolicyTable,
    entries: Vec<GrantEntry>,
    mut new_id: impl FnMut() -> GrantId,
    changes: &mut ChangeSet,
) {
    let claimed: HashSet<GrantId> = entries.iter().filter_map(|entry| entry.id).collect();
    let by_id: HashMap<GrantId, &Grant> = table.grants.iter().map(|g| (g.id, g)).collect();
    // Grants that an entry without id may mean: the oldest of equals, unless named by its id.
    let mut by_nature: HashMap<Natural, &Grant> = HashMap::new();
    for grant in table
        .grants
        .iter()
        .filter(|grant| !claimed.contains(&grant.id))
    {
        let nature = (
            grant.principal.clone(),
            grant.role.clone(),
            grant.scope.clone(),
            grant.effect,
        );
        let oldest = by_nature.entry(nature).or_insert(grant);
        if grant.id < oldest.id {
            *oldest = grant;
        }
    }
    let mut kept: HashSet<GrantId> = HashSet::new();
    for entry in entries {
        let known = match entry.id {
            Some(id) => by_id.get(&id).copied(),
            None => by_nature.get(&natural(&entry)).copied(),
        };
        let id = known
            .map(|grant| grant.id)
            .or(entry.id)
            .unwrap_or_else(&mut new_id);
        kept.insert(id);
        let version = known.map_or(1, |grant| grant.version + 1);
        let grant = entry.into_grant(id, version);
        let unchanged = known.is_some_and(|known| {
            Grant {
                version: known.version,
                ..grant.clone()
            } == *known
        });
        if !unchanged {
            changes.put_grants.push(grant);
        }
    }
    changes.drop_grants = by_id.into_keys().filter(|id| !kept.contains(id)).collect();
    changes.drop_grants.sort();
}

fn check(table: &PolicyTable, document: &PolicyDocument, cloud: &Cloud) -> Vec<Problem> {
    let mut problems = Vec::new();
    let mut report = |at: String, what: String| problems.push(Problem { at, what });
    for (list, length) in [
        ("accounts", document.accounts.len()),
        ("roles", document.roles.len()),
        ("grants", document.grants.len()),
    ] {
        if length > ENTRIES_MAX {
            report(
                list.to_owned(),
                format!("at most {ENTRIES_MAX} entries in one document"),
            );
        }
    }
    let mut accounts: HashSet<&AccountName> = HashSet::new();
    for (i, account) in document.accounts.iter().enumerate() {
        let at = || format!("accounts[{i}] ({})", account.name);
        if let Err(error) = account.check(cloud) {
            report(at(), error.to_string());
        }
        if !accounts.insert(&account.name) {
            report(at(), "stands twice".to_owned());
        }
    }
    let built_in: HashSet<RoleName> = built_in_roles().into_iter().map(|role| role.name).collect();
    let mut roles: HashSet<&RoleName> = HashSet::new();
    for (i, role) in document.roles.iter().enumerate() {
        let at = || format!("roles[{i}] ({})", role.name);
        if let Err(error) = role.check() {
            report(at(), error.to_string());
        }
        if built_in.contains(&role.name) {
            report(at(), "is built in; choose another name".to_owned());
        } else if !roles.insert(&role.name) {
            report(at(), "stands twice".to_owned());
        }
    }
    check_grants(
        table,
        document,
        &accounts,
        &|role| roles.contains(role) || built_in.contains(role),
        &mut report,
    );
    problems
}

fn check_grants(
    table: &PolicyTable,
    document: &PolicyDocument,
    accounts: &HashSet<&AccountName>,
    role_exists: &dyn Fn(&RoleName) -> bool,
    report: &mut dyn FnMut(String, String),
) {
    let known: HashMap<GrantId, &Grant> = table.grants.iter().map(|g| (g.id, g)).collect();
    let mut ids: HashSet<GrantId> = HashSet::new();
    let mut natures: HashSet<Natural> = HashSet::new();
    for (i, entry) in document.grants.iter().enumerate() {
        let grant = entry.clone().into_grant(GrantId(uuid::Uuid::nil()), 1);
        if let Err(error) = grant.check() {
            report(format!("grants[{i}]"), error.to_string());
        }
        if !role_exists(&entry.role) {
            report(
                format!("grants[{i}].role"),
                format!("no role is named {}", entry.role),
            );
        }
        if !accounts.contains(&entry.scope.account) {
            let what = format!("no account is named {}", entry.scope.account);
            report(format!("grants[{i}].scope.account"), what);
        }
        match entry.id {
            Some(id) if !ids.insert(id) => {
                report(format!("grants[{i}].id"), "stands twice".to_owned());
            }
            // A grant's history in the journal goes by its id: it may not become another's.
            Some(id)
                if known
                    .get(&id)
                    .is_some_and(|g| g.principal != entry.principal) =>
            {
                let what = "belongs to another principal; leave the id out to make a new grant";
                report(format!("grants[{i}].id"), what.to_owned());
            }
            None if !natures.insert(natural(entry)) => {
                let what = "same principal, role, scope and effect as an earlier grant; \
                            give both an id if both are meant";
                report(format!("grants[{i}]"), what.to_owned());
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;
    use crate::domain::cloud::CloudName;

    const DOCUMENT: &str = r#"
accounts:
  - name: acct1
    tenant_id: 11111111-1111-1111-1111-111111111111
    blob_endpoint: https://acct1.blob.core.windows.net
    signing_identity: default
roles:
  - { name: curator, permissions: lwr, lifetime_seconds_max: 1800 }
grants:
  - principal: { kind: user, tenant_id: 11111111-1111-1111-1111-111111111111, object_id: 22222222-2222-2222-2222-222222222222 }
    role: reader
    scope: { account: acct1, container: raw }
    provenance: { ticket: CHG-1 }
  - principal: { kind: app_role, tenant_id: 11111111-1111-1111-1111-111111111111, role: Lab.Member }
    role: curator
    scope: { account: acct1, container: raw, prefix: lab }
    conditions: { expires: 2027-01-01T00:00:00Z, caller_networks: [10.0.0.0/8] }
"#;

    fn cloud() -> Cloud {
        CloudName::Public.well_known(vec![]).unwrap()
    }

    fn document(text: &str) -> PolicyDocument {
        serde_saphyr::from_str(text).unwrap()
    }

    fn planned(table: &PolicyTable, text: &str) -> Result<ChangeSet, PlanError> {
        let mut next = 100 * u128::from(table.version.unsigned_abs());
        plan(table, document(text), &cloud(), || {
            next += 1;
            GrantId(Uuid::from_u128(next))
        })
    }

    /// The table after a change, as a storage adapter would leave it.
    fn applied(table: &PolicyTable, changes: ChangeSet) -> PolicyTable {
        let mut after = table.clone();
        after.version += 1;
        after
            .accounts
            .retain(|a| !changes.drop_accounts.contains(&a.name));
        after
            .accounts
            .retain(|a| changes.put_accounts.iter().all(|put| put.name != a.name));
        after.accounts.extend(changes.put_accounts);
        after
            .roles
            .retain(|r| !changes.drop_roles.contains(&r.name));
        after
            .roles
            .retain(|r| changes.put_roles.iter().all(|put| put.name != r.name));
        after.roles.extend(changes.put_roles);
        after
            .grants
            .retain(|g| !changes.drop_grants.contains(&g.id));
        after
            .grants
            .retain(|g| changes.put_grants.iter().all(|put| put.id != g.id));
        after.grants.extend(changes.put_grants);
        after
    }

    #[test]
    fn a_document_applied_twice_changes_nothing_the_second_time() {
        let empty = PolicyTable::default();
        let first = planned(&empty, DOCUMENT).unwrap();
        assert_eq!(
            (
                first.put_accounts.len(),
                first.put_roles.len(),
                first.put_grants.len()
            ),
            (1, 1, 2)
        );
        let table = applied(&empty, first);
        assert!(planned(&table, DOCUMENT).unwrap().is_empty());
    }

    #[test]
    fn an_edited_grant_keeps_its_id_and_raises_its_version() {
        let table = applied(
            &PolicyTable::default(),
            planned(&PolicyTable::default(), DOCUMENT).unwrap(),
        );
        let edited = planned(&table, &DOCUMENT.replace("CHG-1", "CHG-2")).unwrap();
        assert_eq!(edited.put_grants.len(), 1);
        assert_eq!(
            (edited.put_grants[0].id, edited.put_grants[0].version),
            (table.grants[0].id, 2)
        );
        assert!(edited.drop_grants.is_empty());
        let moved = planned(
            &table,
            &DOCUMENT.replace("container: raw }", "container: web }"),
        )
        .unwrap();
        assert_eq!(moved.drop_grants, [table.grants[0].id]);
        assert_eq!(moved.put_grants[0].version, 1);
        let emptied = planned(&table, "{}").unwrap();
        assert_eq!(
            (
                emptied.drop_accounts.len(),
                emptied.drop_roles.len(),
                emptied.drop_grants.len()
            ),
            (1, 1, 2)
        );
    }

    #[test]
    fn every_problem_is_named_with_its_place() {
        let bad = DOCUMENT
            .replace("acct1.blob.core.windows.net", "evil.example")
            .replace("name: curator", "name: reader")
            .replace("role: curator", "role: nobody")
            .replace(
                "account: acct1, container: raw }",
                "account: acct9, container: raw }",
            );
        let PlanError(problems) = planned(&PolicyTable::default(), &bad).unwrap_err();
        let places: Vec<_> = problems.iter().map(|problem| problem.at.as_str()).collect();
        assert_eq!(
            places,
            [
                "accounts[0] (acct1)",
                "roles[0] (reader)",
                "grants[0].scope.account",
                "grants[1].role"
            ]
        );
    }

    #[test]
    fn equal_grants_need_ids_and_ids_stay_with_their_principal() {
        let table = applied(
            &PolicyTable::default(),
            planned(&PolicyTable::default(), DOCUMENT).unwrap(),
        );
        let first = document(DOCUMENT);
        let mut twice = first.clone();
        twice.grants.push(first.grants[0].clone());
        let ids = || GrantId(Uuid::from_u128(1));
        assert!(plan(&table, twice, &cloud(), ids).is_err());
        let mut stolen = first;
        stolen.grants[1].id = Some(table.grants[0].id);
        stolen.grants.remove(0);
        let PlanError(problems) = plan(&table, stolen, &cloud(), ids).unwrap_err();
        assert_eq!(problems[0].at, "grants[0].id");
    }

    #[test]
    fn unknown_members_of_a_document_are_refused() {
        for bad in ["grnats: []", "accounts: [{name: acct1, colour: red}]"] {
            assert!(
                serde_saphyr::from_str::<PolicyDocument>(bad).is_err(),
                "{bad}"
            );
        }
        let principal = DOCUMENT.replace("kind: app_role,", "kind: app_role, colour: red,");
        assert!(serde_saphyr::from_str::<PolicyDocument>(&principal).is_err());
    }
}
