/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Security identities that the programs know by number, and the ranges of the others.
 *
 * Numbers are those of the peer (pkg/identity/numericidentity.go).
 */
#pragma once

enum identity {
	IDENTITY_UNKNOWN = 0,
	IDENTITY_HOST = 1,
	IDENTITY_WORLD = 2,
	IDENTITY_REMOTE_NODE = 6,
	IDENTITY_ALLOCATED = 256, /* the first that isn't reserved */
};

/* Scope: the bits of an identity from IDENTITY_SCOPE_SHIFT on. Only identities of scope 0 travel in
 * tunnels, whose key has 24 bits. */
enum identity_scope {
	IDENTITY_SCOPE_PREFIX = 1, /* prefixes outside of the cluster */
	IDENTITY_SCOPE_NODE = 2,   /* nodes with labels */
	IDENTITY_SCOPE_SHIFT = 24,
};
