//! A change set in words: one line for each edit, for a person before and the journal after.

use std::fmt;

use super::ChangeSet;
use crate::domain::{
    account::Account,
    grant::{Conditions, Effect, Grant, Role},
    rotation::{DeletedSecret, ProofPolicy, RotationPolicy, SecretForm},
    snapshot::PolicyTable,
    time_text,
};

impl ChangeSet {
    /// One line for each edit: `+` for what is new, `~` for what changes, `-` for what goes.
    /// `table` is the table that the change was planned against.
    #[must_use]
    pub fn lines(&self, table: &PolicyTable) -> Vec<String> {
        let mut lines = Vec::new();
        for account in &self.put_accounts {
            let known = table
                .accounts
                .iter()
                .find(|known| known.name == account.name);
            let line = AccountLine(account).to_string();
            let was = known.map(|known| AccountLine(known).to_string());
            let was = was.filter(|was| *was != line);
            let was = was.map_or(String::new(), |was| format!(" (was: {was})"));
            lines.push(format!("{} {line}{was}", sign(known.is_some())));
        }
        lines.extend(
            self.drop_accounts
                .iter()
                .map(|name| format!("- account {name}")),
        );
        for role in &self.put_roles {
            let known = table.roles.iter().find(|known| known.name == role.name);
            lines.push(format!("{} {}", sign(known.is_some()), RoleLine(role)));
        }
        lines.extend(self.drop_roles.iter().map(|name| format!("- role {name}")));
        let grants: std::collections::HashMap<_, _> =
            table.grants.iter().map(|grant| (grant.id, grant)).collect();
        for grant in &self.put_grants {
            match grants.get(&grant.id) {
                None => lines.push(format!("+ {}", GrantLine(grant))),
                Some(known) => {
                    lines.push(format!(
                        "~ {} (was: {})",
                        GrantLine(grant),
                        GrantLine(known)
                    ));
                }
            }
        }
        for id in &self.drop_grants {
            match grants.get(id) {
                Some(known) => lines.push(format!("- {}", GrantLine(known))),
                None => lines.push(format!("- grant {id}")),
            }
        }
        lines
    }
}

const fn sign(known: bool) -> char {
    if known { '~' } else { '+' }
}

struct AccountLine<'a>(&'a Account);

impl fmt::Display for AccountLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let account = self.0;
        write!(f, "account {} at {}", account.name, account.blob_endpoint)?;
        write!(f, ", signed by {}", account.signing_identity)?;
        if account.hierarchical_namespace {
            f.write_str(", hierarchical namespace")?;
        }
        if let Some(seconds) = account.sas_period_seconds_max {
            write!(f, ", SAS policy {seconds} s")?;
        }
        if !account.issuance_enabled {
            f.write_str(", issuing off")?;
        }
        if let Some(identity) = &account.management_identity {
            write!(f, ", managed by {identity}")?;
        }
        match &account.rotation {
            Some(rotation) => write!(f, ", {}", RotationText(account, rotation)),
            None => Ok(()),
        }
    }
}

struct RotationText<'a>(&'a Account, &'a RotationPolicy);

impl fmt::Display for RotationText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(account, rotation) = self;
        let secret = rotation.secret_name(&account.name);
        let host = rotation.vault.host_str().unwrap_or_default();
        write!(
            f,
            "keys rotated into {secret} at {host} {}",
            rotation.schedule
        )?;
        write!(f, ", overlap {} h", rotation.overlap_hours)?;
        if let Some(window) = &rotation.window {
            write!(f, ", {} to {}", window.from, window.until)?;
            write!(f, " {}", window.time_zone)?;
        }
        if rotation.value == SecretForm::ConnectionString {
            write!(f, ", as {}", rotation.value)?;
        }
        if rotation.proof == ProofPolicy::ListkeysIfUnreachable {
            f.write_str(", proved by listKeys where Blob is out of reach")?;
        }
        if rotation.deleted_secret == DeletedSecret::Recover {
            f.write_str(", recovered if deleted")?;
        }
        if rotation.rotate_disallowed_keys {
            f.write_str(", even if Shared Key is off")?;
        }
        Ok(())
    }
}

struct RoleLine<'a>(&'a Role);

impl fmt::Display for RoleLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let role = self.0;
        write!(f, "role {}: {}", role.name, role.permissions)?;
        if let Some(seconds) = role.lifetime_seconds_max {
            write!(f, ", {seconds} s at most")?;
        }
        if role.bind_to_caller {
            f.write_str(", bound to the caller")?;
        }
        if role.require_ip {
            f.write_str(", bound to an address")?;
        }
        Ok(())
    }
}

struct GrantLine<'a>(&'a Grant);

impl fmt::Display for GrantLine<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let grant = self.0;
        let effect = match grant.effect {
            Effect::Allow => "grant",
            Effect::Deny => "deny",
        };
        write!(
            f,
            "{effect} {} {} to {}",
            grant.id, grant.role, grant.principal
        )?;
        write!(
            f,
            " on {}{}",
            grant.scope,
            ConditionsText(&grant.conditions)
        )?;
        if let Some(ticket) = &grant.provenance.ticket {
            write!(f, " [{ticket}]")?;
        }
        Ok(())
    }
}

struct ConditionsText<'a>(&'a Conditions);

impl fmt::Display for ConditionsText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let conditions = self.0;
        if let Some(from) = conditions.not_before {
            write!(f, ", from {}", time_text::to_text(from))?;
        }
        if let Some(until) = conditions.expires {
            write!(f, ", until {}", time_text::to_text(until))?;
        }
        for network in &conditions.caller_networks {
            write!(f, ", from network {network}")?;
        }
        for network in &conditions.sip_within {
            write!(f, ", for addresses in {network}")?;
        }
        if let Some(seconds) = conditions.lifetime_seconds_max {
            write!(f, ", {seconds} s at most")?;
        }
        Ok(())
    }
}
