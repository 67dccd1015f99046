/* Who is present, when nodes, lines and the store fail: a model for Spin.
 *
 * One user, two nodes, a store that they share. Every step is one request, or one thing that happens to a node; Spin
 * tries them in every order. The rules are those of core/leases.py and core/ledger.py, the words those of the glossary.
 *
 * Time is counted in ticks of the store clock: a beat is one tick. A tick comes only after every healthy node has done
 * what it owes (said hello, joined, put what changed, renewed its lease, asserted, retired what it left behind) and the
 * store was swept: so "healthy" means "does its duty within a beat". An outage of the store is no time at all here: its
 * clock stands still then (core/clock.py).
 *
 * What is promised, as assertions:
 *   - said_offline(): watchers are never told OFFLINE while a healthy node has a connection that was welcomed, nor
 *     before the time has passed that was promised to a user whose connection ended or whose node is in trouble;
 *   - store_offline(): the store never turns a user OFFLINE whom an incarnation with a valid lease carries;
 *   - tick(): who is gone is OFFLINE within BOUND ticks.
 *
 * -DNODE_FAULTS, -DSTORE_FAULTS, -DLATE and -DLOST say how many faults there are; -DNOFENCE and the other mutants
 * leave out one rule each. run.sh runs them all.
 */

#ifndef NODE_FAULTS
#define NODE_FAULTS 0           /* node 0 stands still, is cut off, or dies (the nodes are alike) */
#endif
#ifndef STORE_FAULTS
#define STORE_FAULTS 0          /* the store restarts, or is emptied */
#endif
#ifndef LATE
#define LATE 0                  /* puts whose line breaks, and which are executed at any later time */
#endif
#ifndef LOST
#define LOST 0                  /* replies to put and join that never arrive */
#endif

/* Ticks. By default a beat is 5 s: the proportions are those of the default settings. */
#ifndef LEASE
#define LEASE 3
#endif
#ifndef WINDOW
#define WINDOW 2                /* after the end of a connection */
#endif
#ifndef NODE_WINDOW
#define NODE_WINDOW 3           /* after the death of an incarnation */
#endif
#ifndef NOHOLD
#define RECOVERY 4              /* LEASE and a beat */
#else
#define RECOVERY 0
#endif
#define TOLERATED (lost_data -> 4 : LEASE - 1 + NODE_WINDOW)    /* trouble of a node that nobody notices */
#define BOUND (LEASE + NODE_WINDOW + 4 + 1)

#ifndef NAMES
#define NAMES 2                 /* incarnations per node; a name is used again only when nothing bears it any more */
#endif
#define INCARNATIONS (2 * NAMES)
#define NONE INCARNATIONS

/* ---- the store ---- */

#define OFFLINE 0
#define ONLINE  1
#define HELD    2

byte lease[INCARNATIONS];       /* 0: none; 1: ran out, not swept yet; else the ticks left, and 1 */
byte channel[INCARNATIONS];     /* the newest line that has spoken for the incarnation */
bool dead[INCARNATIONS];        /* to be reaped */
bool share[INCARNATIONS];       /* carries a connection of the user */
byte phase = OFFLINE;
byte window;                    /* ticks left of the longest pending one */

bool epoch = true;              /* there is one; an empty store has none */
bool new_run;                   /* another process of the store, and nobody has said hello to it */
bool wiped;                     /* the epoch began with an empty store */
byte recovery;                  /* ticks for which nothing expires */
bool awaited[2];                /* processes that have to assert */
bool awaited_in_vain;           /* and one that is no more */
bool asserted[2] = true;

bool swept;
bool late; byte late_incarnation, late_channel; bool late_connection;   /* a put under way in a broken line */
#if STORE_FAULTS > 0
bool undo; byte undo_incarnation; bool undo_share; byte undo_phase, undo_window;     /* before the last put */
#define FORGET_UNDO undo = false; undo_incarnation = 0; undo_share = false; undo_phase = 0; undo_window = 0
#else
#define FORGET_UNDO skip
#endif

/* ---- the nodes ---- */

#define UP          0
#define PAUSED      1           /* its process stands still */
#define PARTITIONED 2           /* it runs, and reaches the store no more */
#define CRASHED     3
byte state[2];
bool line[2];                   /* to the store */
byte number[2];                 /* channel number of the line */

#define MEMBER  0
#define JOINING 1               /* has a new name and no lease */
#define FENCED  2               /* needs a new name */
byte standing[2] = JOINING;
byte incarnation[2];
bool former[INCARNATIONS];      /* incarnations of a process that told all again under a newer one: to be retired */
bool current[2] = true;         /* knows the present epoch */
bool told[2] = true;            /* has asserted in it */

bool connection[2];             /* of the user */
bool unput[2];                  /* the store has to hear of it */
byte ago[2];                    /* ticks since the end of the connection that is to be put */
bool beaten[2];                 /* has renewed its lease in this tick */

byte node_faults = NODE_FAULTS, store_faults = STORE_FAULTS, lates = LATE, losses = LOST;

/* ---- what was promised, and what watchers believe ---- */

bool welcomed[2];               /* the store has acknowledged the connection */
byte promise;                   /* ticks left of the window that the end of a connection was promised */
byte patience;                  /* ticks left for which the trouble of node 0 shall go unnoticed */
bool shown;                     /* watchers see the user online */
byte gone;                      /* ticks since there was any connection */
bool lost_data;                 /* the store forgot something, so that trouble is tolerated only for its recovery */

hidden byte k;

#define HEALTHY(i) (state[i] == UP && welcomed[i])
#define VALID(i) (state[i] == UP && welcomed[i] && share[incarnation[i]] && lease[incarnation[i]] > 1)
#define CARRIED (share[0] || share[1] || share[2] || share[3] || (NAMES > 2 && (share[NONE - 2] || share[NONE - 1])))
#define DYING (dead[0] || dead[1] || dead[2] || dead[3] || (NAMES > 2 && (dead[NONE - 2] || dead[NONE - 1])))
#define FREE(x) (lease[x] == 0 && !dead[x] && !share[x] && !former[x] && !(late && late_incarnation == x))
#define NAME(i, n) (NAMES * (i) + (n))

inline said_offline() {
    assert(!HEALTHY(0) && !HEALTHY(1));
    assert(promise == 0 && patience == 0);
    shown = false
}

inline store_offline() {
    assert(!VALID(0) && !VALID(1));
    phase = OFFLINE; window = 0;
    FORGET_UNDO;
    if
    :: shown -> said_offline()
    :: else
    fi
}

inline hold_for(ticks) {        /* of several windows the longest wins */
#ifndef NOMAX
    if
    :: window < (ticks) -> window = ticks
    :: else
    fi
#else
    window = ticks
#endif
}

inline settle() {
    if
    :: CARRIED -> phase = ONLINE; shown = true
    :: else ->
        if
        :: phase == ONLINE -> phase = HELD
        :: else
        fi
    fi;
    if
    :: phase == OFFLINE -> window = 0
    :: else
    fi
}

/* The fence: no lease, or a newer line has spoken. */
#ifdef NOFENCE
#define ADMITTED(x, c) (true)
#elif defined(NOCHANNEL)
#define ADMITTED(x, c) (lease[x] > 0)
#else
#define ADMITTED(x, c) (lease[x] > 0 && channel[x] <= (c))
#endif
#ifdef NOEPOCH
#define NO_EPOCH (false)        /* an empty store takes everything */
#else
#define NO_EPOCH (!epoch)
#endif

inline merge(x, connected, since) {     /* a put that was admitted */
#if STORE_FAULTS > 0
    if
    :: store_faults > 0 ->
        undo = true; undo_incarnation = x; undo_share = share[x]; undo_phase = phase; undo_window = window
    :: else
    fi;
#endif
    share[x] = connected;
    if
    :: !connected && phase != OFFLINE && (since) < WINDOW -> hold_for(WINDOW - (since))
#ifndef FORGETFUL
    :: !connected && phase == OFFLINE && recovery > 0 && (since) < WINDOW ->    /* told before, and forgotten */
        phase = HELD; shown = true; hold_for(WINDOW - (since))
#endif
    :: else
    fi;
    settle()
}

inline declare_dead(x) {
    lease[x] = 0; channel[x] = 0; dead[x] = true;
    FORGET_UNDO                 /* what is lost is the last that was written, not what was before it */
}

#define LIVES(x) ((incarnation[x / NAMES] == x || former[x]) && state[x / NAMES] != CRASHED)       /* its process does */

inline begin_epoch() {
    epoch = true; new_run = false; recovery = RECOVERY; awaited_in_vain = false;
    k = 0;
    do
    :: k < 2 ->
        asserted[k] = false; current[k] = false; awaited[k] = false;
        told[k] = false;
        k++
    :: else -> break
    od;
#ifndef NOAWAIT
    k = 0;
    do
    :: k < INCARNATIONS ->
        if
        :: lease[k] > 0 && LIVES(k) -> awaited[k / NAMES] = true
        :: lease[k] > 0 && !LIVES(k) ->
            awaited_in_vain = true
        :: else
        fi;
        k++
    :: else -> break
    od
#endif
}

inline hello(i) {
    line[i] = true; number[i]++;
    if
    :: !epoch || new_run -> wiped = !epoch; begin_epoch()
    :: else
    fi;
    if
    :: recovery > 0 && !asserted[i] -> awaited[i] = true
    :: else
    fi;
    if
    :: lease[incarnation[i]] > 0 && channel[incarnation[i]] < number[i] -> channel[incarnation[i]] = number[i]
    :: else
    fi;
    if
    :: !current[i] && standing[i] == MEMBER -> standing[i] = FENCED     /* what it told may be lost */
    :: else
    fi;
    current[i] = true
}

inline end_recovery_early() {
    if
#ifndef ENDEARLY
    :: !awaited[0] && !awaited[1] && !awaited_in_vain && !wiped -> recovery = 0
#else
    :: !awaited[0] && !awaited[1] && !awaited_in_vain -> recovery = 0
#endif
    :: else
    fi
}

inline new_name(i) {            /* blocks where all are in use */
    if
    :: incarnation[i] != NAME(i, 0) && FREE(NAME(i, 0)) -> incarnation[i] = NAME(i, 0)
    :: else ->
        if
        :: incarnation[i] != NAME(i, 1) && FREE(NAME(i, 1)) -> incarnation[i] = NAME(i, 1)
        :: else -> incarnation[i] = NAME(i, NAMES - 1)
        fi
    fi
}
#define FORMER(i) (former[NAME(i, 0)] || former[NAME(i, 1)] || former[NAME(i, NAMES - 1)])
#define HAS_NAME(i) ((incarnation[i] != NAME(i, 0) && FREE(NAME(i, 0))) || (incarnation[i] != NAME(i, 1) && FREE(NAME(i, 1))) || (incarnation[i] != NAME(i, NAMES - 1) && FREE(NAME(i, NAMES - 1))))

#define me _pid
#define CAN (state[me] == UP && line[me])

active [2] proctype node() {
    incarnation[me] = NAME(me, 0);
    do
    /* the user comes and goes */
    :: atomic { CAN && standing[me] == MEMBER && !connection[me] ->
        connection[me] = true; unput[me] = true; ago[me] = 0; gone = 0 }
    :: atomic { (state[me] == UP || state[me] == PARTITIONED) && connection[me] ->
        connection[me] = false; unput[me] = true; ago[me] = 0;
        if
        :: welcomed[me] && (state[me] == UP || patience >= WINDOW) -> promise = WINDOW
        :: welcomed[me] && state[me] != UP && patience < WINDOW && promise < patience -> promise = patience
        :: else
        fi;
        welcomed[me] = false;
        if :: state[me] == PARTITIONED -> patience = 0 :: else fi }

    /* the node's procedure */
    :: atomic { state[me] == UP && !line[me] -> hello(me) }
    :: atomic { CAN && standing[me] == FENCED && HAS_NAME(me) ->
        former[incarnation[me]] = true; new_name(me); standing[me] = JOINING;
#ifndef MARKLATE
        unput[me] = unput[me] || connection[me]         /* before the join: its reply may be lost */
#endif
        }
    :: atomic { CAN && standing[me] == JOINING ->
        if
        :: NO_EPOCH -> line[me] = false
        :: else ->
            lease[incarnation[me]] = LEASE + 1; channel[incarnation[me]] = number[me];
            if
            :: recovery > 0 && !asserted[me] -> awaited[me] = true
            :: else
            fi;
            standing[me] = MEMBER;
            if
            :: beaten[me] = true;
#ifdef MARKLATE
                unput[me] = unput[me] || connection[me]
#endif
            :: losses > 0 -> losses--; line[me] = false;        /* executed, and the node does not know */
#ifndef MARKLATE
                standing[me] = FENCED
#endif
            fi
        fi }
    :: atomic { CAN && standing[me] == MEMBER && unput[me] ->
        if
        :: NO_EPOCH -> line[me] = false
        :: !NO_EPOCH && !ADMITTED(incarnation[me], number[me]) -> standing[me] = FENCED
        :: !NO_EPOCH && ADMITTED(incarnation[me], number[me]) ->
            merge(incarnation[me], connection[me], ago[me]);
            if
            :: unput[me] = false; welcomed[me] = connection[me]; ago[me] = 0
            :: losses > 0 -> losses--; line[me] = false
            fi
        fi }
    :: atomic { CAN && standing[me] == MEMBER && unput[me] && !late && lates > 0 ->
        lates--; line[me] = false;
        late = true; late_incarnation = incarnation[me]; late_channel = number[me]; late_connection = connection[me] }
    :: atomic { CAN && standing[me] == MEMBER && !beaten[me] ->
        if
        :: NO_EPOCH -> line[me] = false
        :: !NO_EPOCH && !ADMITTED(incarnation[me], number[me]) -> standing[me] = FENCED
        :: !NO_EPOCH && ADMITTED(incarnation[me], number[me]) ->
            beaten[me] = true;
            if
            :: lease[incarnation[me]] > 0 -> lease[incarnation[me]] = LEASE + 1
            :: else
            fi
        fi }
#ifndef ASSERTEARLY
    :: atomic { CAN && standing[me] == MEMBER && !told[me] && !unput[me] ->
#else
    :: atomic { CAN && standing[me] == MEMBER && !told[me] ->
#endif
        if
        :: NO_EPOCH -> line[me] = false
        :: !NO_EPOCH && !ADMITTED(incarnation[me], number[me]) -> standing[me] = FENCED
        :: !NO_EPOCH && ADMITTED(incarnation[me], number[me]) ->
            told[me] = true; asserted[me] = true; awaited[me] = false;
            end_recovery_early()
        fi }
    :: atomic { CAN && standing[me] == MEMBER && !unput[me] && FORMER(me) ->             /* retire */
        if
        :: NO_EPOCH -> line[me] = false
        :: else ->
            k = NAMES * me;
            do
            :: !former[k] -> k++
            :: else -> break
            od;
            former[k] = false;
            if
            :: lease[k] > 0 || share[k] -> declare_dead(k)
            :: else
            fi
        fi }
    :: atomic { CAN && !NO_EPOCH && DYING ->            /* reap */
        k = 0;
        do
        :: k < INCARNATIONS && !dead[k] -> k++
        :: else -> break
        od;
        dead[k] = false;
        FORGET_UNDO;
        if
        :: share[k] -> share[k] = false; hold_for(NODE_WINDOW); settle()
        :: else
        fi }
    :: atomic { CAN && !NO_EPOCH && !swept ->           /* sweep */
        swept = true;
        if
        :: recovery == 0 ->
            k = 0;
            do
            :: k < INCARNATIONS ->
                if
                :: lease[k] == 1 -> declare_dead(k)
                :: else
                fi;
                k++
            :: else -> break
            od;
            if
            :: phase == HELD && window == 0 -> store_offline()
            :: else
            fi;
            if
            :: phase == OFFLINE && shown -> said_offline()      /* a snapshot tells watchers what the store forgot */
            :: else
            fi
        :: else
        fi }

    /* what befalls a node */
    :: atomic { me == 0 && state[me] == UP && node_faults > 0 ->
        node_faults--;
        if
        :: welcomed[me] -> patience = TOLERATED
        :: else
        fi;
        if
        :: state[me] = PAUSED
        :: state[me] = PARTITIONED; line[me] = false
        :: state[me] = CRASHED; line[me] = false; connection[me] = false; welcomed[me] = false; unput[me] = false;
            ago[me] = 0; beaten[me] = false; standing[me] = JOINING; told[me] = false;
            if
            :: awaited[me] -> awaited_in_vain = true
            :: else
            fi;
            awaited[me] = false; asserted[me] = false; current[me] = true; number[me] = 0;
            k = NAMES * me;
            do
            :: k < NAMES * (me + 1) -> former[k] = false; k++
            :: else -> break
            od
        fi }
    :: atomic { (state[me] == PAUSED || state[me] == PARTITIONED) ->
        state[me] = UP; beaten[me] = false; patience = 0 }
    :: atomic { state[me] == CRASHED && HAS_NAME(me) -> state[me] = UP; new_name(me) }
    od
}

#define DONE(i) (state[i] != UP || (line[i] && standing[i] == MEMBER && !unput[i] && beaten[i] && told[i] && !FORMER(i)))

inline forget_everything() {
    k = 0;
    do
    :: k < INCARNATIONS -> lease[k] = 0; channel[k] = 0; dead[k] = false; share[k] = false; k++
    :: else -> break
    od;
    phase = OFFLINE; window = 0; epoch = false; recovery = 0
}

active proctype store() {
    do
    :: atomic { late ->                                 /* the put of a broken line arrives after all */
        late = false;
        if
        :: !NO_EPOCH && ADMITTED(late_incarnation, late_channel) -> merge(late_incarnation, late_connection, 0)
        :: else
        fi;
        late_incarnation = 0; late_channel = 0; late_connection = false }

    :: atomic { swept && epoch && !new_run && !DYING && DONE(0) && DONE(1) ->        /* tick */
        swept = false; beaten[0] = false; beaten[1] = false;
        FORGET_UNDO;
        k = 0;
        do
        :: k < INCARNATIONS ->
            if
            :: lease[k] > 1 -> lease[k]--
            :: else
            fi;
            k++
        :: else -> break
        od;
        if :: window > 0 -> window-- :: else fi;
        if :: recovery > 0 -> recovery-- :: else fi;
        if :: recovery == 0 -> wiped = false; awaited[0] = false; awaited[1] = false; awaited_in_vain = false :: else fi;
        if :: promise > 0 -> promise-- :: else fi;
        if :: patience > 0 -> patience-- :: else fi;
        if :: patience == 0 && state[0] != UP -> welcomed[0] = false :: else fi;
        if :: unput[0] && !connection[0] && ago[0] < WINDOW -> ago[0]++ :: else fi;
        if
        :: (phase != OFFLINE || shown) && !connection[0] && !connection[1] -> gone++
        :: else -> gone = 0
        fi;
        assert(gone <= BOUND) }

#if STORE_FAULTS > 0
    :: atomic { store_faults > 0 ->
        store_faults--;
        if
        :: line[0] = false; line[1] = false; late = false; new_run = true;
            if
            :: true                                     /* nothing is lost */
            :: undo ->                                  /* the last write is */
                if                                      /* windows go with it, but where a share comes back */
                :: !undo_share && promise > undo_window -> promise = undo_window
                :: else
                fi;
                share[undo_incarnation] = undo_share; phase = undo_phase; window = undo_window; lost_data = true
            :: forget_everything(); lost_data = true
            fi
        :: forget_everything(); lost_data = true        /* FLUSHALL: the lines are still there */
        fi;
        FORGET_UNDO;
        late_incarnation = 0; late_channel = 0; late_connection = false;
        if
        :: lost_data && patience > 4 -> patience = 4
        :: else
        fi }
#endif
    od
}
