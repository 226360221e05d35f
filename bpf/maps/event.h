/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Events that the programs report: the verdict on each new flow, each drop, and now and then that a
 * flow goes on.
 *
 * Writers: the programs; what finds no room is counted under LOST_EVENT in cilia_metrics. Reader:
 * the agent. It is woken once in 64 KiB of pending events, and has to look by itself for what is
 * less: a wake-up costs the sender some 6 us.
 */
#pragma once

#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

#include "maps/address.h"
#include "maps/metrics.h"

enum event_kind {
	EVENT_VERDICT = 1, /* first packet of a flow, or a flow decided anew */
	EVENT_DROP = 2,
	EVENT_TRACE = 3, /* established flow: TCP begins or ends, or it has gone on for a while */
};

struct event {
	__u64 time_ns;  /* CLOCK_MONOTONIC */
	__u8 kind;      /* enum event_kind */
	__u8 reason;    /* enum drop_reason; of a verdict 0 */
	__u8 direction; /* enum policy_direction: the side that decided */
	__u8 audited;   /* would have been dropped */
	__u8 family;    /* 4 or 6 */
	__u8 protocol;
	__u8 tcp_flags;
	__u8 hook;    /* enum hook */
	__u32 length; /* packet's, in bytes from the Ethernet header on */
	__u32 ifindex;
	__u32 identity[2]; /* source's, destination's */
	__u16 endpoint[2]; /* ids of the local ends; 0: not local */
	__be16 port[2];    /* ICMP, ICMPv6: {0, type} */
	__u32 cookie;      /* deciding policy's; 0: none */
	struct address source;
	struct address destination;
	__u8 is_reply; /* not sent by the flow's initiator */
	__u8 pad[3];
};

_Static_assert(sizeof(struct event) == 80, "event");

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 1 << 22);
} cilia_events SEC(".maps");

/* Links whose budgets are told apart: by their index modulo this. */
#define EVENT_LINKS            4096
#define EVENT_BUDGETS_OF_LINKS (EVENT_LINKS * HOOKS)

/* Budget of reports, see lib/budget.h. */
struct event_budget {
	__u32 refilled; /* time of the latest refill, as lib/clock.h counts */
	__u32 credit;   /* each report costs `ticks_per_second` of it */
};

/* Budgets: link % EVENT_LINKS * HOOKS + hook, and the node's behind them all. Writers: the
 * programs. Lifetime: pinned, and nobody would miss them. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, EVENT_BUDGETS_OF_LINKS + 1);
	__type(key, __u32);
	__type(value, struct event_budget);
} cilia_event_budgets SEC(".maps");
