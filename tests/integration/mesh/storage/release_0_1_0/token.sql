-- made_at 2026-11-26T12:01:39.524811+00:00
-- spent amrt_JgpRLQhtVHFCCYOqOdIhSFg2nH4CuwYmRbYDuOXO9ck
-- refresh_token amrt_01J5XKGfnguTY0IHzhJq4J3ZBtPTeUHm0ThFYisM4ts
-- signed_out amrt_Ld0iz3ftUL5-fKlroppEUF9QZViWqwD3p-GmcnfQzh8
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
    end_time timestamp with time zone
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
INSERT INTO public.alembic_version VALUES ('0005_signing_keys');
INSERT INTO public.client_assertions VALUES ('backend', 'jti', '2026-11-26 12:01:39.561602+00');
INSERT INTO public.outbox OVERRIDING SYSTEM VALUE VALUES (2, 'audit', 'token.refreshed', '\x0a2430316132313762622d393664352d373737372d613738322d3237643561343131323162631205746f6b656e1802220c08a3bfa0d8061090b89982022a0f746f6b656e2e7265667265736865643001422a75736572732f30313938303030302d303030302d373030302d383030302d3030303030303030303030314a2a75736572732f30313938303030302d303030302d373030302d383030302d303030303030303030303031525875736572732f30313938303030302d303030302d373030302d383030302d3030303030303030303030312f73657373696f6e732f30316132313762622d393663662d373730342d386533322d3662323834316462373632385a0c636c69656e74732f64656d6f9a0120f37ff3c3a611e521eb0045db21da7dddfd62da3cb69bb4e290cc23bf9767d541', 2, 0, '2026-11-26 12:01:39.541622+00', '2026-11-26 12:01:39.541622+00', 0);
INSERT INTO public.outbox OVERRIDING SYSTEM VALUE VALUES (3, 'audit', 'token.issued', '\x0a2430316132313762622d393664382d373637362d623065642d3038636264393834626265631205746f6b656e1803220c08a3bfa0d80610d0d1cc83022a0c746f6b656e2e6973737565643001422a75736572732f30313938303030302d303030302d373030302d383030302d3030303030303030303030324a2a75736572732f30313938303030302d303030302d373030302d383030302d303030303030303030303032525875736572732f30313938303030302d303030302d373030302d383030302d3030303030303030303030322f73657373696f6e732f30316132313762622d393664382d373132632d396535362d3030383862353237346166325a0c636c69656e74732f64656d6f92010a0a03616d72120370776492014a0a0673636f70657312407265736f757263653a72656164207265736f757263653a77726974652073657373696f6e3a6d616e61676520757365723a7265616420757365723a77726974659a01200df9b5904647678f5b283c1246cb377073b6c926f0183670f84aa7437687196ba2012f0d267c6eefa9bfc2be638b6001112fafc1479b3ee45e039ed0060f46ac145c083b1a7ba1e129a79c0a8df7f57ebd3f', 3, 0, '2026-11-26 12:01:39.543839+00', '2026-11-26 12:01:39.543839+00', 0);
INSERT INTO public.outbox OVERRIDING SYSTEM VALUE VALUES (4, 'audit', 'token.revoked', '\x0a2430316132313762622d393664662d376266342d383061392d6666616439353331346362361205746f6b656e1804220c08a3bfa0d80610b0ce8d87022a0d746f6b656e2e7265766f6b656430014a2a75736572732f30313938303030302d303030302d373030302d383030302d303030303030303030303032525875736572732f30313938303030302d303030302d373030302d383030302d3030303030303030303030322f73657373696f6e732f30316132313762622d393664382d373132632d396535362d3030383862353237346166325a0c636c69656e74732f64656d6f9201110a05636175736512087369676e5f6f75749a0120f1d660c0bfe1b60588057b5b00ce7056c44a983c0f0bbd5b33172e607f7835c3', 4, 0, '2026-11-26 12:01:39.545386+00', '2026-11-26 12:01:39.545386+00', 0);
INSERT INTO public.outbox OVERRIDING SYSTEM VALUE VALUES (5, 'audit', 'token.issued', '\x0a2430316132313762622d393665382d373430642d386435372d3864366261343732353539341205746f6b656e220c08a3bfa0d80610a8ee938b022a0c746f6b656e2e6973737565643001422a75736572732f30313938303030302d303030302d373030302d383030302d3030303030303030303030324a2a75736572732f30313938303030302d303030302d373030302d383030302d303030303030303030303032525875736572732f30313938303030302d303030302d373030302d383030302d3030303030303030303030322f73657373696f6e732f30316132313762622d393665372d376561332d393939392d3430393761366566313138385a0c636c69656e74732f64656d6f6a093139322e302e322e377206746573742f3192010a0a03616d72120370776492014a0a0673636f70657312407265736f757263653a72656164207265736f757263653a77726974652073657373696f6e3a6d616e61676520757365723a7265616420757365723a7772697465', NULL, 0, '2026-11-26 12:01:39.559706+00', '2026-11-26 12:01:39.559706+00', 0);
INSERT INTO public.outbox OVERRIDING SYSTEM VALUE VALUES (1, 'audit', 'token.issued', '\x0a2430316132313762622d393664302d376533382d623437382d6531303130363336353164621205746f6b656e1801220c08a3bfa0d8061088e88280022a0c746f6b656e2e6973737565643001422a75736572732f30313938303030302d303030302d373030302d383030302d3030303030303030303030314a2a75736572732f30313938303030302d303030302d373030302d383030302d303030303030303030303031525875736572732f30313938303030302d303030302d373030302d383030302d3030303030303030303030312f73657373696f6e732f30316132313762622d393663662d373730342d386533322d3662323834316462373632385a0c636c69656e74732f64656d6f92010a0a03616d72120370776492014a0a0673636f70657312407265736f757263653a72656164207265736f757263653a77726974652073657373696f6e3a6d616e61676520757365723a7265616420757365723a7772697465a2012f5614cc284391c38aaa2f6143799f12f16238d441225f3f7a0af7a06cdf49bbe268c609b94e283837283a544b4bc0a9', 1, 2, '2026-11-26 12:01:39.53428+00', '2026-11-26 12:01:39.53428+00', 1);
INSERT INTO public.outbox_chain VALUES ('token', 4, '\x8b9b1c4306dd80052f9773e5ab3a0af3cb5f9b0bff778ad5149e0ddae4bdd7cb');
INSERT INTO public.outbox_parked VALUES (1000, 'audit', 'token.issued', '\x78', NULL, 'test', '2026-11-26 12:01:39.561034+00', '2026-11-26 12:01:39.561034+00');
INSERT INTO public.refresh_tokens VALUES ('\x12cf096d5987dcbe8b1708aad387aac4db3cb881037aea33f977a878c4815994', '01a217bb-96cf-7704-8e32-6b2841db7628', '01a217bb-96cf-77b0-a53a-53176596ece4', '2026-11-26 12:01:39+00', '2026-11-26 12:11:39+00', '2026-12-10 12:01:39+00', '{resource:read,resource:write,session:manage,user:read,user:write}', '{}', '2026-11-26 12:01:39.524811+00', '\xa9fa5b45b3231e4770a3d7c5598f370449cf6752dec544d0e4c0f8fe92217762', '\x016d879e97510bf6fe1cf59ced700c624c515e4daff57bc94503b006992789d997a3b8fa3c0b57b8f8c4f0fe0d8d2b0398745b7be47e07ed3fc495a33daa1da72051f6f521b77477a6d29fb4', 0, 0, false);
INSERT INTO public.refresh_tokens VALUES ('\xa9fa5b45b3231e4770a3d7c5598f370449cf6752dec544d0e4c0f8fe92217762', '01a217bb-96cf-7704-8e32-6b2841db7628', '01a217bb-96d5-771d-a85b-ed94283058d6', '2026-11-26 12:01:39+00', '2026-11-26 12:11:39+00', '2026-12-10 12:01:39+00', '{resource:read,resource:write,session:manage,user:read,user:write}', '{}', NULL, NULL, NULL, 0, 0, false);
INSERT INTO public.refresh_tokens VALUES ('\x1d1e9f7ec9162454f0893c6b9d60aa713c44fc4a86e6f822541143c8435b4a6a', '01a217bb-96d8-712c-9e56-0088b5274af2', '01a217bb-96d8-716b-95f7-104c9458ba62', '2026-11-26 12:01:39+00', '2026-11-26 12:11:39+00', '2026-12-10 12:01:39+00', '{resource:read,resource:write,session:manage,user:read,user:write}', '{}', NULL, NULL, NULL, 0, 0, false);
INSERT INTO public.refresh_tokens VALUES ('\x8099ce086558597df20018c654fd3894bbd6637cba7706b5eadd4b19513e3052', '01a217bb-96e7-7ea3-9999-4097a6ef1188', '01a217bb-96e7-7ef2-950a-83d9cd15faf0', '2026-11-26 12:01:39+00', '2026-11-26 12:11:39+00', '2026-12-10 12:01:39+00', '{resource:read,resource:write,session:manage,user:read,user:write}', '{}', NULL, NULL, NULL, 0, 0, false);
INSERT INTO public.revocation_log VALUES (true, '350f7ff5-2739-47ad-89e7-d8b5acab5cb1', 1);
INSERT INTO public.revocations VALUES (1, 2, '01a217bb-96d8-712c-9e56-0088b5274af2', 0, 1795698159);
INSERT INTO public.sessions VALUES ('01a217bb-96cf-7704-8e32-6b2841db7628', '01980000-0000-7000-8000-000000000001', 'demo', NULL, 'Ada''s phone', 'ios', '{resource:read,resource:write,session:manage,user:read,user:write}', '{}', '1970-01-01 00:00:00+00', '2026-11-26 12:01:39.524811+00', '{pwd}', '192.0.2.8', 'test/1', NULL, '2026-11-26 12:01:39+00', '2026-11-26 12:01:39.524811+00', '2026-12-10 12:01:39+00', '2027-02-24 12:01:39+00', NULL);
INSERT INTO public.sessions VALUES ('01a217bb-96d8-712c-9e56-0088b5274af2', '01980000-0000-7000-8000-000000000002', 'demo', NULL, 'Ada''s phone', 'ios', '{resource:read,resource:write,session:manage,user:read,user:write}', '{}', '1970-01-01 00:00:00+00', '2026-11-26 12:01:39.524811+00', '{pwd}', '192.0.2.7', 'test/1', NULL, '2026-11-26 12:01:39+00', '2026-11-26 12:01:39+00', '2026-12-10 12:01:39+00', '2027-02-24 12:01:39+00', '2026-11-26 12:01:39.524811+00');
INSERT INTO public.sessions VALUES ('01a217bb-96e7-7ea3-9999-4097a6ef1188', '01980000-0000-7000-8000-000000000002', 'demo', NULL, 'Ada''s phone', 'ios', '{resource:read,resource:write,session:manage,user:read,user:write}', '{}', '1970-01-01 00:00:00+00', '2026-11-26 12:01:39.524811+00', '{pwd}', '192.0.2.7', 'test/1', NULL, '2026-11-26 12:01:39+00', '2026-11-26 12:01:39+00', '2026-12-10 12:01:39+00', '2027-02-24 12:01:39+00', NULL);
INSERT INTO public.signing_key_ring VALUES (true, NULL, NULL);
INSERT INTO public.signing_keys VALUES ('k', 'ES256', '{}', 'local', '\x78', '2026-11-26 12:01:39.5613+00', false, '2026-11-26 12:01:39.5613+00', NULL, NULL, NULL);
INSERT INTO public.subject_keys VALUES ('users/01980000-0000-7000-8000-000000000001', '\x2a8d0d9c44660256e7d941b266bed6c0b35c06f16e538a59afa9f811b9817f56', '2026-11-26 12:01:39.553219+00', NULL);
INSERT INTO public.subject_keys VALUES ('users/01980000-0000-7000-8000-000000000002', '\xeb2336b32ce78a1dfe6b15e437c98fee836417dc6d29d8bfaa53e3e0d2614f04', '2026-11-26 12:01:39.553219+00', NULL);
INSERT INTO public.subjects VALUES ('01980000-0000-7000-8000-000000000001', '{}', false, 0, '1970-01-01 00:00:00+00');
INSERT INTO public.subjects VALUES ('01980000-0000-7000-8000-000000000002', '{}', false, 0, '1970-01-01 00:00:00+00');
SELECT pg_catalog.setval('public.outbox_id_seq', 5, true);
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
CREATE INDEX sessions_expire ON public.sessions USING btree (expire_time);
CREATE INDEX sessions_live ON public.sessions USING btree (subject, id) WHERE (end_time IS NULL);
CREATE INDEX sessions_of_client ON public.sessions USING btree (client_id, id) WHERE (end_time IS NULL);
CREATE UNIQUE INDEX signing_keys_one_active ON public.signing_keys USING btree ((true)) WHERE ((active_time IS NOT NULL) AND (retire_time IS NULL) AND (revoke_time IS NULL));
CREATE UNIQUE INDEX signing_keys_one_published ON public.signing_keys USING btree ((true)) WHERE ((active_time IS NULL) AND (revoke_time IS NULL));
CREATE INDEX subject_keys_of_days ON public.subject_keys USING btree (create_time) WHERE (subject ~~ 'days/%'::text);
ALTER TABLE ONLY public.sessions
    ADD CONSTRAINT sessions_subject_fkey FOREIGN KEY (subject) REFERENCES public.subjects(id);
