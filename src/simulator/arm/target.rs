//! The resource that an ARM path names. Pure text; whether it exists is another question.

use uuid::Uuid;

/// What a path names. Texts are as the client wrote them; ARM compares them without case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    pub(super) subscription: String,
    pub(super) group: Option<String>,
    pub(super) account: Option<String>,
    /// What to do with the account: the last segment of a POST.
    pub(super) action: Option<String>,
}

impl Target {
    /// Reads the decoded segments of a path; `None` is nothing that is simulated here.
    pub(super) fn parse(segments: &[String]) -> Option<Self> {
        let mut rest = segments;
        let subscription = value_of("subscriptions", &mut rest)?;
        let group = value_of("resourceGroups", &mut rest);
        let provider = value_of("providers", &mut rest)?;
        if !provider.eq_ignore_ascii_case("Microsoft.Storage") {
            return None;
        }
        let (kind, rest) = rest.split_first()?;
        if !kind.eq_ignore_ascii_case("storageAccounts") {
            return None;
        }
        let (account, action) = match rest {
            [] => (None, None),
            [account] => (Some(account), None),
            [account, action] => (Some(account), Some(action)),
            _ => return None,
        };
        if account.is_some() && group.is_none() {
            return None;
        }
        Some(Self {
            subscription,
            group,
            account: account.cloned(),
            action: action.cloned(),
        })
    }

    /// The id of the subscription, if it is one.
    pub(super) fn subscription_id(&self) -> Option<Uuid> {
        Uuid::try_parse(&self.subscription).ok()
    }

    /// The account's name as the simulator keeps it; empty without one.
    pub(super) fn account_key(&self) -> String {
        self.account.as_deref().unwrap_or_default().to_lowercase()
    }
}

/// Takes `name/{value}` off the front.
fn value_of(name: &str, segments: &mut &[String]) -> Option<String> {
    match segments {
        [first, value, rest @ ..] if first.eq_ignore_ascii_case(name) => {
            *segments = rest;
            Some(value.clone())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(path: &str) -> Option<Target> {
        let segments: Vec<String> = path.split('/').map(String::from).collect();
        Target::parse(&segments)
    }

    #[test]
    fn paths_are_read_in_any_case_and_others_are_not_simulated() {
        let account =
            "SUBSCRIPTIONS/s/resourcegroups/G/Providers/microsoft.storage/StorageAccounts/a";
        let target = parse(account).unwrap();
        assert_eq!(target.subscription, "s");
        assert_eq!(target.group.as_deref(), Some("G"));
        assert_eq!(target.account.as_deref(), Some("a"));
        assert_eq!(target.action, None);
        let action = parse(&format!("{account}/listKeys")).unwrap();
        assert_eq!(action.action.as_deref(), Some("listKeys"));
        let all = parse("subscriptions/s/providers/Microsoft.Storage/storageAccounts").unwrap();
        assert_eq!((all.group, all.account), (None, None));
        for other in [
            "",
            "subscriptions/s",
            "subscriptions/s/providers/Microsoft.Storage/storageAccounts/a",
            "subscriptions/s/resourceGroups/g/providers/Microsoft.Network/storageAccounts/a",
            "subscriptions/s/resourceGroups/g/providers/Microsoft.Storage/skus",
        ] {
            assert_eq!(parse(other), None, "{other}");
        }
        assert_eq!(parse(&format!("{account}/blobServices/default")), None);
    }
}
