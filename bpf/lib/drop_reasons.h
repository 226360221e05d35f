/* SPDX-License-Identifier: (GPL-2.0-only OR BSD-2-Clause) */
/* Drop reasons, and verdicts, which carry them.
 *
 * Verdict: an int that is a TC action, or the negative of a drop reason. Whatever in lib/ may
 * refuse a packet returns one; where there is no action to choose yet (parsing, locating), success
 * is 0. Verdicts reach one of two exits: drop() in lib/drop.h, or forwarded() in lib/forward.h.
 * Only entry points return TC_ACT_UNSPEC, which is negative, too.
 */
#pragma once

/* Numbers are those of the peer (bpf/lib/drop_reasons.h there), so that its tools name them. */
enum drop_reason {
	DROP_INVALID_MAC = 130,    /* not the MAC address of the pod that sent it */
	DROP_INVALID_SOURCE = 132, /* not the address of the pod that sent it */
	DROP_POLICY_DENIED = 133,  /* no rule allows it */
	DROP_INVALID_PACKET = 134, /* ends before its headers do, or they contradict each other */
	DROP_CT_INVALID = 135,     /* reply to what was never sent */
	DROP_UNKNOWN_L3 = 139,     /* neither IP nor ARP */
	DROP_UNKNOWN_L4 = 142,     /* none of TCP, UDP, ICMP and ICMPv6 */
	DROP_UNKNOWN_ICMP_TYPE = 144,
	DROP_NO_TUNNEL_KEY = 147,     /* came by the overlay without an identity */
	DROP_UNKNOWN_TARGET = 150,    /* solicits another neighbour than the gateway */
	DROP_NO_ENDPOINT = 152,       /* destination should live here and doesn't */
	DROP_CT_CREATE = 155,         /* no room for the flow */
	DROP_INVALID_EXTENSION = 156, /* extension headers of IPv6 that are too many, too long or
					 not allowed there; or the sender chooses the way */
	DROP_FRAGMENT = 157,          /* fragments are not supported */
	DROP_NO_OVERLAY = 160,       /* destination lives behind a tunnel, and there is no device */
	DROP_TOO_BIG = 161,          /* longer than the tunnel takes; the sender was told */
	DROP_NAT_NO_PORT = 167,      /* all ports to the destination are in use */
	DROP_ENCAP_PROHIBITED = 170, /* a pod sends to the tunnel's port */
	DROP_INVALID_IDENTITY =
	    171, /* came by the overlay with an identity that its source can't have */
	DROP_UNKNOWN_SENDER =
	    172, /* came by the overlay from a node that doesn't have its source */
	DROP_FRAGMENT_UNKNOWN = 175, /* its first fragment wasn't seen */
	DROP_DENIED_BY_RULE = 181,   /* a rule denies it */
	DROP_POLICY_NOT_READY = 203, /* the policy of a local endpoint is not realised yet */
	/* ours alone */
	DROP_CT_MIDWAY =
	    240, /* TCP of no known flow without SYN, and not both ends may begin one */
	DROP_CT_REUSED = 241,        /* its flow's entry became another's while it was read */
	DROP_INVALID_FRAGMENT = 242, /* a first fragment without its whole header, another that
					reaches over it, or of a length that none has */
	DROP_INVALID_ADDRESS = 243,  /* an IPv6 packet with an address of IPv4 */
	DROP_OWN_SOURCE = 244, /* came from outside with an address of this node as its source */
	DROP_MARTIAN = 245,  /* from or to what no single host is: loopback, multicast, broadcast */
	DROP_CT_QUOTA = 246, /* an endpoint holds its share of the tables of flows */
	DROP_INVALID_OFFLOAD =
	    247,              /* asks for a checksum, or for cutting, that its headers don't fit */
	DROP_NAT_QUOTA = 250, /* the pod has as many mappings in use as it may */
	DROP_NAT_NO_ROOM = 251, /* the map of mappings is full, and none of the pod's own is idle */
};
