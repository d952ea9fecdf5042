-- The role table, the journal and what belongs to them, on SQLite. The PostgreSQL twin has the same
-- tables and columns; the queries in src/storage/ run unchanged on both.
--
-- Instants are Unix microseconds. Ids are hyphenated lower-case GUIDs as text: people read these
-- tables with sqlite3 and psql, text sorts here as the bytes would, and both drivers bind it alike.
-- Proposals, rotations and leases come with migrations of their own; they change nothing here.

-- One row. Every change of the role table raises `version`, whoever makes it: what was decided on
-- an older version is never released.
CREATE TABLE policy_version (
    id INTEGER NOT NULL PRIMARY KEY CHECK (id = 1),
    version INTEGER NOT NULL,
    -- 1 only inside the broker's own change, which raises the version once for all its edits.
    changing INTEGER NOT NULL
) STRICT;
INSERT INTO policy_version (id, version, changing) VALUES (1, 0, 0);

CREATE TABLE accounts (
    name TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    resource_id TEXT,
    tenant_id TEXT NOT NULL,
    blob_endpoint TEXT NOT NULL,
    dfs_endpoint TEXT,
    hierarchical_namespace INTEGER NOT NULL,
    signing_identity TEXT NOT NULL,
    correlation_id_supported INTEGER NOT NULL,
    sas_period_seconds_max INTEGER,
    issuance_enabled INTEGER NOT NULL,
    -- JSON, NULL until key rotation and the posture report write them.
    rotation_policy TEXT,
    posture_policy TEXT,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL
) STRICT;

CREATE TABLE roles (
    name TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    permissions TEXT NOT NULL,
    lifetime_seconds_max INTEGER,
    bind_to_caller INTEGER NOT NULL,
    require_ip INTEGER NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL
) STRICT;

-- No foreign keys: built-in roles have no row, and a grant for an unknown account gives nothing.
CREATE TABLE grants (
    id TEXT NOT NULL PRIMARY KEY,
    version INTEGER NOT NULL,
    principal_kind TEXT NOT NULL,
    principal_tenant_id TEXT NOT NULL,
    -- The object id, or the app role's value.
    principal_name TEXT NOT NULL,
    role TEXT NOT NULL,
    account TEXT NOT NULL,
    container TEXT NOT NULL,
    prefix TEXT,
    effect TEXT NOT NULL,
    not_before INTEGER,
    expires INTEGER,
    -- JSON arrays of networks.
    caller_networks TEXT NOT NULL,
    sip_within TEXT NOT NULL,
    lifetime_seconds_max INTEGER,
    ticket TEXT,
    reason TEXT,
    created_at INTEGER NOT NULL,
    created_by TEXT NOT NULL,
    updated_at INTEGER NOT NULL,
    updated_by TEXT NOT NULL
) STRICT;

-- A revoke by hand counts like any other: without these, no replica would ever learn of it.
CREATE TRIGGER accounts_insert AFTER INSERT ON accounts BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;
CREATE TRIGGER accounts_update AFTER UPDATE ON accounts BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;
CREATE TRIGGER accounts_delete AFTER DELETE ON accounts BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;
CREATE TRIGGER roles_insert AFTER INSERT ON roles BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;
CREATE TRIGGER roles_update AFTER UPDATE ON roles BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;
CREATE TRIGGER roles_delete AFTER DELETE ON roles BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;
CREATE TRIGGER grants_insert AFTER INSERT ON grants BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;
CREATE TRIGGER grants_update AFTER UPDATE ON grants BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;
CREATE TRIGGER grants_delete AFTER DELETE ON grants BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
END;

-- Append-only. `writer` is a UUIDv7, so that the key grows with time and every insert lands at the
-- end of its chain.
CREATE TABLE journal (
    writer TEXT NOT NULL,
    seq INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    body BLOB NOT NULL,
    hash BLOB NOT NULL,
    PRIMARY KEY (writer, seq)
) STRICT;

-- Guard rails against a slip of the hand. The proof is the hash chain: whoever may drop a trigger
-- may also change a row, and `audit verify` finds it.
CREATE TRIGGER journal_no_update BEFORE UPDATE ON journal BEGIN
    SELECT RAISE(ABORT, 'the journal is append-only');
END;
CREATE TRIGGER journal_no_delete BEFORE DELETE ON journal BEGIN
    SELECT RAISE(ABORT, 'the journal is append-only');
END;

CREATE TABLE journal_heads (
    writer TEXT NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    at INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE idempotency_keys (
    tenant_id TEXT NOT NULL,
    object_id TEXT NOT NULL,
    key TEXT NOT NULL,
    body_sha256 BLOB NOT NULL,
    -- What was recorded, as JSON. Never a token.
    fact TEXT NOT NULL,
    expires_at INTEGER NOT NULL,
    PRIMARY KEY (tenant_id, object_id, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- Derived from the journal by the follower, and free to be rebuilt from it. Verification never
-- looks here.
CREATE TABLE journal_search (
    at INTEGER NOT NULL,
    writer TEXT NOT NULL,
    seq INTEGER NOT NULL,
    kind TEXT NOT NULL,
    tenant_id TEXT,
    object_id TEXT,
    account TEXT,
    container TEXT,
    issuance_id TEXT,
    signature_sha256 TEXT,
    PRIMARY KEY (at, writer, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX journal_search_kind ON journal_search (kind, at);
CREATE INDEX journal_search_object ON journal_search (object_id, at) WHERE object_id IS NOT NULL;
CREATE INDEX journal_search_place ON journal_search (account, container, at)
    WHERE account IS NOT NULL;
CREATE INDEX journal_search_issuance ON journal_search (issuance_id)
    WHERE issuance_id IS NOT NULL;
CREATE INDEX journal_search_signature ON journal_search (signature_sha256)
    WHERE signature_sha256 IS NOT NULL;

-- How far each chain has been copied.
CREATE TABLE search_cursors (
    writer TEXT NOT NULL PRIMARY KEY,
    seq INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
