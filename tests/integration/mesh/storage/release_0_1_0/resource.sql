CREATE TABLE public.alembic_version (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.change_head (
    sequence bigint NOT NULL,
    purged bigint NOT NULL
);
CREATE TABLE public.changes (
    sequence bigint NOT NULL,
    user_id uuid NOT NULL,
    resource_id uuid NOT NULL,
    change smallint NOT NULL,
    create_time timestamp with time zone NOT NULL
);
CREATE TABLE public.creations (
    caller_id uuid NOT NULL,
    request_id uuid NOT NULL,
    digest bytea NOT NULL,
    resource_id uuid NOT NULL,
    create_time timestamp with time zone NOT NULL
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
CREATE TABLE public.resources (
    id uuid NOT NULL,
    owner_id uuid NOT NULL,
    display_name text NOT NULL,
    content text NOT NULL,
    version bigint NOT NULL,
    create_time timestamp with time zone NOT NULL,
    update_time timestamp with time zone NOT NULL
);
CREATE TABLE public.shares (
    id uuid NOT NULL,
    resource_id uuid NOT NULL,
    grantee text NOT NULL,
    email text,
    holder_id uuid,
    role smallint NOT NULL,
    create_time timestamp with time zone NOT NULL,
    lookup_time timestamp with time zone,
    CONSTRAINT shares_role_check CHECK ((role = ANY (ARRAY[1, 2])))
);
CREATE TABLE public.subject_keys (
    subject text NOT NULL,
    key bytea,
    create_time timestamp with time zone DEFAULT now() NOT NULL,
    erase_time timestamp with time zone,
    CONSTRAINT subject_keys_check CHECK (((key IS NULL) = (erase_time IS NOT NULL))),
    CONSTRAINT subject_keys_key_check CHECK ((length(key) = 32))
);
CREATE TABLE public.unnumbered_changes (
    id bigint NOT NULL,
    user_id uuid NOT NULL,
    resource_id uuid NOT NULL,
    change smallint NOT NULL
);
ALTER TABLE public.unnumbered_changes ALTER COLUMN id ADD GENERATED ALWAYS AS IDENTITY (
    SEQUENCE NAME public.unnumbered_changes_id_seq
    START WITH 1
    INCREMENT BY 1
    NO MINVALUE
    NO MAXVALUE
    CACHE 1
);
INSERT INTO public.alembic_version VALUES ('0002_audit_pipeline');
INSERT INTO public.change_head VALUES (3, 0);
INSERT INTO public.changes VALUES (1, '01980000-0000-7000-8000-000000000001', '01980000-0000-7000-8000-000000000001', 1, '2026-11-26 12:01:40.573968+00');
INSERT INTO public.changes VALUES (2, '01980000-0000-7000-8000-000000000001', '01980000-0000-7000-8000-000000000001', 2, '2026-11-26 12:01:40.573968+00');
INSERT INTO public.changes VALUES (3, '01980000-0000-7000-8000-000000000002', '01980000-0000-7000-8000-000000000001', 1, '2026-11-26 12:01:40.573968+00');
INSERT INTO public.creations VALUES ('01980000-0000-7000-8000-000000000001', '01980000-0000-7000-8000-000000000001', '\x64', '01980000-0000-7000-8000-000000000001', '2026-11-26 12:01:40.573968+00');
INSERT INTO public.resources VALUES ('01980000-0000-7000-8000-000000000001', '01980000-0000-7000-8000-000000000001', 'plan', 'a', 1, '2026-11-26 12:01:40.573968+00', '2026-11-26 12:01:40.573968+00');
INSERT INTO public.shares VALUES ('01980000-0000-7000-8000-000000000002', '01980000-0000-7000-8000-000000000001', 'users/01980000-0000-7000-8000-000000000002', NULL, '01980000-0000-7000-8000-000000000002', 1, '2026-11-26 12:01:40.573968+00', NULL);
INSERT INTO public.unnumbered_changes OVERRIDING SYSTEM VALUE VALUES (1, '01980000-0000-7000-8000-000000000001', '01980000-0000-7000-8000-000000000001', 2);
SELECT pg_catalog.setval('public.outbox_id_seq', 1, false);
SELECT pg_catalog.setval('public.unnumbered_changes_id_seq', 1, true);
ALTER TABLE ONLY public.alembic_version
    ADD CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.changes
    ADD CONSTRAINT changes_pkey PRIMARY KEY (sequence);
ALTER TABLE ONLY public.creations
    ADD CONSTRAINT creations_pkey PRIMARY KEY (caller_id, request_id);
ALTER TABLE ONLY public.outbox_chain
    ADD CONSTRAINT outbox_chain_pkey PRIMARY KEY (source);
ALTER TABLE ONLY public.outbox_parked
    ADD CONSTRAINT outbox_parked_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.outbox
    ADD CONSTRAINT outbox_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.resources
    ADD CONSTRAINT resources_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.shares
    ADD CONSTRAINT shares_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.shares
    ADD CONSTRAINT shares_resource_id_grantee_key UNIQUE (resource_id, grantee);
ALTER TABLE ONLY public.subject_keys
    ADD CONSTRAINT subject_keys_pkey PRIMARY KEY (subject);
ALTER TABLE ONLY public.unnumbered_changes
    ADD CONSTRAINT unnumbered_changes_pkey PRIMARY KEY (id);
CREATE INDEX changes_of_user ON public.changes USING btree (user_id, sequence);
CREATE INDEX creations_by_age ON public.creations USING btree (create_time);
CREATE INDEX outbox_due ON public.outbox USING btree (kind, next_attempt_time, id);
CREATE INDEX outbox_first ON public.outbox USING btree (kind, id) WHERE ((attempts = 0) AND ((kind <> 'audit'::text) OR (sequence IS NOT NULL)));
CREATE INDEX outbox_unnumbered ON public.outbox USING btree (id) WHERE ((kind = 'audit'::text) AND (sequence IS NULL));
CREATE INDEX resources_owned ON public.resources USING btree (owner_id, id);
CREATE INDEX shares_held ON public.shares USING btree (holder_id, resource_id) WHERE (holder_id IS NOT NULL);
CREATE INDEX shares_listed ON public.shares USING btree (resource_id, id);
CREATE INDEX shares_to_look_up ON public.shares USING btree (lookup_time) WHERE (lookup_time IS NOT NULL);
CREATE INDEX shares_unclaimed ON public.shares USING btree (grantee) WHERE (holder_id IS NULL);
CREATE INDEX subject_keys_of_days ON public.subject_keys USING btree (create_time) WHERE (subject ~~ 'days/%'::text);
ALTER TABLE ONLY public.shares
    ADD CONSTRAINT shares_resource_id_fkey FOREIGN KEY (resource_id) REFERENCES public.resources(id) ON DELETE CASCADE;
