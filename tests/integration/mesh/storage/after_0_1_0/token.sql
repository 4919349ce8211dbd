CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.client_assertions (
    client_id text NOT NULL,
    token_id text NOT NULL,
    expire_time timestamp with time zone NOT NULL
);
CREATE TABLE public.clients (
    id text NOT NULL,
    display_name text NOT NULL,
    confidential boolean NOT NULL,
    scopes text[] NOT NULL,
    access_token_seconds integer NOT NULL,
    refresh_idle_seconds integer NOT NULL,
    session_seconds integer NOT NULL,
    refresh_grace_seconds integer NOT NULL,
    session_limit integer NOT NULL,
    instance_required boolean NOT NULL,
    jwks text NOT NULL,
    disabled boolean NOT NULL,
    version bigint DEFAULT 1 NOT NULL,
    not_before timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL,
    delete_time timestamp with time zone
);
CREATE TABLE public.commands (
    request_id uuid NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.outbox (
    id bigint NOT NULL,
    kind text NOT NULL,
    destination text NOT NULL,
    payload bytea NOT NULL,
    sequence bigint,
    attempts integer DEFAULT 0 NOT NULL,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    next_attempt_time timestamp with time zone DEFAULT now() NOT NULL,
    refusals integer DEFAULT 0 NOT NULL,
    CONSTRAINT outbox_kind_check CHECK ((kind = ANY (ARRAY['audit'::text, 'message'::text, 'command'::text])))
);
CREATE TABLE public.outbox_chain (
    source text NOT NULL,
    sequence bigint DEFAULT 0 NOT NULL,
    hash bytea DEFAULT '\x'::bytea NOT NULL
);
ALTER TABLE public.outbox ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.outbox_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
CREATE TABLE public.outbox_parked (
    id bigint NOT NULL,
    kind text NOT NULL,
    destination text NOT NULL,
    payload bytea NOT NULL,
    sequence bigint,
    reason text NOT NULL,
    create_time timestamp with time zone NOT NULL,
    park_time timestamp with time zone DEFAULT now() NOT NULL
);
CREATE TABLE public.refresh_tokens (
    hash bytea NOT NULL,
    session_id uuid NOT NULL,
    token_id uuid NOT NULL,
    issue_time timestamp with time zone NOT NULL,
    access_expire_time timestamp with time zone NOT NULL,
    expire_time timestamp with time zone NOT NULL,
    scopes text[] NOT NULL,
    roles text[] NOT NULL,
    rotate_time timestamp with time zone,
    successor bytea,
    sealed_successor bytea,
    replays smallint DEFAULT 0 NOT NULL,
    replayed_ancestors smallint DEFAULT 0 NOT NULL,
    unanswered boolean DEFAULT false NOT NULL
)
WITH (fillfactor='80');
CREATE TABLE public.revocation_log (
    only_row boolean DEFAULT true NOT NULL,
    epoch uuid DEFAULT gen_random_uuid() NOT NULL,
    sequence bigint DEFAULT 0 NOT NULL,
    CONSTRAINT revocation_log_only_row_check CHECK (only_row)
);
CREATE TABLE public.revocations (
    sequence bigint NOT NULL,
    kind smallint NOT NULL,
    value text NOT NULL,
    not_before bigint NOT NULL,
    expire_time bigint NOT NULL,
    holder text DEFAULT ''::text NOT NULL,
    CONSTRAINT revocations_kind_check CHECK (((kind >= 1) AND (kind <= 5)))
);
CREATE TABLE public.sessions (
    id uuid NOT NULL,
    subject uuid NOT NULL,
    client_id text NOT NULL,
    instance_id uuid,
    display_name text NOT NULL,
    platform text NOT NULL,
    scopes text[] NOT NULL,
    roles text[] NOT NULL,
    not_before timestamp with time zone NOT NULL,
    auth_time timestamp with time zone NOT NULL,
    amr text[] NOT NULL,
    address text NOT NULL,
    user_agent text NOT NULL,
    dpop_jkt text,
    create_time timestamp with time zone NOT NULL,
    last_used_time timestamp with time zone NOT NULL,
    refresh_expire_time timestamp with time zone NOT NULL,
    expire_time timestamp with time zone NOT NULL,
    end_time timestamp with time zone,
    issue_time timestamp with time zone
)
WITH (fillfactor='80');
CREATE TABLE public.signing_key_ring (
    only_row boolean DEFAULT true NOT NULL,
    lead interval,
    period interval,
    CONSTRAINT signing_key_ring_only_row_check CHECK (only_row)
);
CREATE TABLE public.signing_keys (
    key_id text NOT NULL,
    algorithm text NOT NULL,
    public_jwk jsonb NOT NULL,
    custody text NOT NULL,
    material bytea,
    publish_time timestamp with time zone NOT NULL,
    ordered boolean DEFAULT false NOT NULL,
    active_time timestamp with time zone,
    retire_time timestamp with time zone,
    gone_time timestamp with time zone,
    revoke_time timestamp with time zone,
    CONSTRAINT signing_keys_algorithm_check CHECK ((algorithm = ANY (ARRAY['ES256'::text, 'RS256'::text]))),
    CONSTRAINT signing_keys_check CHECK ((((retire_time IS NULL) AND (revoke_time IS NULL)) = (gone_time IS NULL))),
    CONSTRAINT signing_keys_check1 CHECK (((retire_time IS NULL) OR (active_time IS NOT NULL)))
);
CREATE TABLE public.subject_keys (
    subject text NOT NULL,
    key bytea,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    erase_time timestamp with time zone,
    CONSTRAINT subject_keys_check CHECK (((key IS NULL) = (erase_time IS NOT NULL))),
    CONSTRAINT subject_keys_key_check CHECK ((length(key) = 32))
);
CREATE TABLE public.subjects (
    id uuid NOT NULL,
    roles text[] DEFAULT '{}'::text[] NOT NULL,
    disabled boolean DEFAULT false NOT NULL,
    version bigint DEFAULT 0 NOT NULL,
    not_before timestamp with time zone DEFAULT '1970-01-01 00:00:00+00'::timestamp with time zone NOT NULL
);
INSERT INTO public.alembic_version VALUES ('0006_issue_times');
INSERT INTO public.revocation_log VALUES (true, '2ba62843-405c-466f-b8b2-cc5fec14dae5', 0);
INSERT INTO public.signing_key_ring VALUES (true, NULL, NULL);
SELECT pg_catalog.setval('public.outbox_id_seq', 1, false);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.client_assertions
    ADD CONSTRAINT client_assertions_pkey PRIMARY KEY (client_id, token_id);
ALTER TABLE ONLY public.clients
    ADD CONSTRAINT clients_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.commands
    ADD CONSTRAINT commands_pkey PRIMARY KEY (request_id);
ALTER TABLE ONLY public.outbox_chain
    ADD CONSTRAINT outbox_chain_pkey PRIMARY KEY (source);
ALTER TABLE ONLY public.outbox_parked
    ADD CONSTRAINT outbox_parked_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.refresh_tokens
    ADD CONSTRAINT refresh_tokens_pkey PRIMARY KEY (hash);
ALTER TABLE ONLY public.revocation_log
    ADD CONSTRAINT revocation_log_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY public.revocations
    ADD CONSTRAINT revocations_pkey PRIMARY KEY (sequence);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.signing_key_ring
    ADD CONSTRAINT signing_key_ring_pkey PRIMARY KEY (only_row);
ALTER TABLE ONLY public.signing_keys
    ADD CONSTRAINT signing_keys_pkey PRIMARY KEY (key_id);
ALTER TABLE ONLY public.subject_keys
    ADD CONSTRAINT subject_keys_pkey PRIMARY KEY (subject);
ALTER TABLE ONLY public.subjects
    ADD CONSTRAINT subjects_pkey PRIMARY KEY (id);
CREATE INDEX client_assertions_expire ON public.client_assertions USING btree (expire_time);
CREATE INDEX commands_create ON public.commands USING btree (create_time);
CREATE INDEX outbox_due ON public.outbox USING btree (kind, next_attempt_time, id);
CREATE INDEX outbox_first ON public.outbox USING btree (kind, id) WHERE ((attempts = 0) AND ((kind <> 'audit'::text) OR (sequence IS NOT NULL)));
CREATE INDEX outbox_unnumbered ON public.outbox USING btree (id) WHERE ((kind = 'audit'::text) AND (sequence IS NULL));
CREATE INDEX refresh_tokens_expire ON public.refresh_tokens USING brin (expire_time);
CREATE INDEX revocations_expire ON public.revocations USING btree (expire_time);
CREATE INDEX revocations_of_holder ON public.revocations USING btree (holder) WHERE (kind = 1);
CREATE INDEX sessions_expire ON public.sessions USING btree (expire_time);
CREATE INDEX sessions_live ON public.sessions USING btree (subject, id) WHERE (end_time IS NULL);
CREATE INDEX sessions_of_client ON public.sessions USING btree (client_id, id) WHERE (end_time IS NULL);
CREATE UNIQUE INDEX signing_keys_one_active ON public.signing_keys USING btree ((true)) WHERE ((active_time IS NOT NULL) AND (retire_time IS NULL) AND (revoke_time IS NULL));
CREATE UNIQUE INDEX signing_keys_one_published ON public.signing_keys USING btree ((true)) WHERE ((active_time IS NULL) AND (revoke_time IS NULL));
CREATE INDEX subject_keys_of_days ON public.subject_keys USING btree (create_time) WHERE (subject ~~ 'days/%'::text);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_subject_fkey FOREIGN KEY (subject) REFERENCES public.subjects(id);
