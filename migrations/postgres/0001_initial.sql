-- The role table, the journal and what belongs to them, on PostgreSQL. The SQLite twin has the same
-- tables and columns, with the reasons that hold for both; here stand those of this engine.
--
-- Text keys sort by bytes (COLLATE "C"), as they do on SQLite and as the writers' ids need it.
-- Tables of few rows that every commit rewrites leave room on their pages (fillfactor), so that
-- updates stay there.

-- One row. Every change of the role table raises `version`, whoever makes it: what was decided on
-- an older version is never released.
CREATE TABLE policy_version (
    id BIGINT NOT NULL PRIMARY KEY CHECK (id = 1),
    version BIGINT NOT NULL,
    -- 1 only inside the broker's own change, which raises the version once for all its edits.
    changing BIGINT NOT NULL
) WITH (fillfactor = 50);
INSERT INTO policy_version (id, version, changing) VALUES (1, 0, 0);

CREATE TABLE accounts (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    resource_id TEXT,
    tenant_id TEXT COLLATE "C" NOT NULL,
    blob_endpoint TEXT NOT NULL,
    dfs_endpoint TEXT,
    hierarchical_namespace BIGINT NOT NULL,
    signing_identity TEXT NOT NULL,
    correlation_id_supported BIGINT NOT NULL,
    sas_period_seconds_max BIGINT,
    issuance_enabled BIGINT NOT NULL,
    -- JSON, NULL until key rotation and the posture report write them.
    rotation_policy TEXT,
    posture_policy TEXT,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL
);

CREATE TABLE roles (
    name TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    permissions TEXT NOT NULL,
    lifetime_seconds_max BIGINT,
    bind_to_caller BIGINT NOT NULL,
    require_ip BIGINT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL
);

-- No foreign keys: built-in roles have no row, and a grant for an unknown account gives nothing.
CREATE TABLE grants (
    id TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    version BIGINT NOT NULL,
    principal_kind TEXT NOT NULL,
    principal_tenant_id TEXT NOT NULL,
    -- The object id, or the app role's value.
    principal_name TEXT NOT NULL,
    role TEXT NOT NULL,
    account TEXT NOT NULL,
    container TEXT NOT NULL,
    prefix TEXT,
    effect TEXT NOT NULL,
    not_before BIGINT,
    expires BIGINT,
    -- JSON arrays of networks.
    caller_networks TEXT NOT NULL,
    sip_within TEXT NOT NULL,
    lifetime_seconds_max BIGINT,
    ticket TEXT,
    reason TEXT,
    created_at BIGINT NOT NULL,
    created_by TEXT NOT NULL,
    updated_at BIGINT NOT NULL,
    updated_by TEXT NOT NULL
);

-- A revoke by hand counts like any other: without these, no replica would ever learn of it. BEFORE
-- and per statement, so that a change by hand queues on `policy_version` before it locks any row,
-- as the broker's own changes do: no deadlock between the two. As long as such a transaction stays
-- open, nothing can be recorded, and so no token is given out.
CREATE FUNCTION raise_policy_version() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE policy_version SET version = version + 1 WHERE changing = 0;
    RETURN NULL;
END $$;
CREATE TRIGGER accounts_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON accounts
    FOR EACH STATEMENT EXECUTE FUNCTION raise_policy_version();
CREATE TRIGGER roles_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON roles
    FOR EACH STATEMENT EXECUTE FUNCTION raise_policy_version();
CREATE TRIGGER grants_change BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON grants
    FOR EACH STATEMENT EXECUTE FUNCTION raise_policy_version();

-- Append-only. `writer` is a UUIDv7, so that the key grows with time and every insert lands at the
-- end of its chain.
CREATE TABLE journal (
    writer TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    at BIGINT NOT NULL,
    kind TEXT NOT NULL,
    body BYTEA NOT NULL,
    hash BYTEA NOT NULL,
    PRIMARY KEY (writer, seq)
);

-- Guard rails against a slip of the hand. The proof is the hash chain: whoever may drop a trigger
-- may also change a row, and `audit verify` finds it.
CREATE FUNCTION refuse_journal_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the journal is append-only';
END $$;
CREATE TRIGGER journal_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON journal
    FOR EACH STATEMENT EXECUTE FUNCTION refuse_journal_change();

CREATE TABLE journal_heads (
    writer TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL,
    hash BYTEA NOT NULL,
    at BIGINT NOT NULL
) WITH (fillfactor = 50);

CREATE TABLE idempotency_keys (
    tenant_id TEXT COLLATE "C" NOT NULL,
    object_id TEXT COLLATE "C" NOT NULL,
    key TEXT COLLATE "C" NOT NULL,
    body_sha256 BYTEA NOT NULL,
    -- What was recorded, as JSON. Never a token.
    fact TEXT NOT NULL,
    expires_at BIGINT NOT NULL,
    PRIMARY KEY (tenant_id, object_id, key)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

-- Derived from the journal by the follower, and free to be rebuilt from it. Verification never
-- looks here.
CREATE TABLE journal_search (
    at BIGINT NOT NULL,
    writer TEXT COLLATE "C" NOT NULL,
    seq BIGINT NOT NULL,
    kind TEXT NOT NULL,
    tenant_id TEXT COLLATE "C",
    object_id TEXT COLLATE "C",
    account TEXT,
    container TEXT,
    issuance_id TEXT COLLATE "C",
    signature_sha256 TEXT COLLATE "C",
    PRIMARY KEY (at, writer, seq)
);
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
    writer TEXT COLLATE "C" NOT NULL PRIMARY KEY,
    seq BIGINT NOT NULL
);
