/**
 * What an application calls of the microvisor, in C.
 *
 * Numbers, structures and names are those of the last published Microvisor interface (0.7.0), so that an application written for it
 * recompiles unchanged; what begins with `hf` is ours. Link with holdfast_calls.S, which holds the calls themselves.
 *
 * - Every call answers at once, MV_STATUS_OKAY when it is done. What else it may answer stands at each.
 * - A call that may be made from an exception handler says so; every other answers MV_STATUS_UNAVAILABLE in one.
 * - A pointer is to memory of the application's, whole and aligned: its RAM, or its code where it is only read; and its own MPU lets it.
 * - Calls that exist and do not work yet (holdfast_later.h) answer MV_STATUS_UNAVAILABLE, whatever is passed.
 * - `enum X` and `struct X` may be written without the keyword.
 */
#ifndef HOLDFAST_H
#define HOLDFAST_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/** Characters of a device's id, without a terminator. */
#define MV_DEVICE_ID_BYTES 34
/** Bytes of a log message, at most. */
#define MV_LOG_MESSAGE_BYTES_MAX 512
/** Bytes of the memory lent to the log, at most; it is aligned to, and a multiple of, MV_LOG_BUFFER_UNIT_BYTES. */
#define MV_LOG_BUFFER_BYTES_MAX 8192
#define MV_LOG_BUFFER_UNIT_BYTES 512
/** Notification centres, at most. */
#define MV_NOTIFICATION_CENTRES_MAX 32
/** Requests for the network that an application may hold at once. */
#define MV_NETWORK_REQUESTS_MAX 32
/** System notifications that an application may have open at once. */
#define MV_SYSTEM_NOTIFICATIONS_MAX 8
/** Interrupts of the application's that no peripheral drives: for notification centres. */
#define MV_IRQ_NOTIFICATION_FIRST 64
#define MV_IRQ_NOTIFICATION_LAST 71
/** Bytes of a sample of telemetry, and of the name of its type, at most. */
#define HF_TELEMETRY_BYTES_MAX 1024
#define HF_CONTENT_TYPE_BYTES_MAX 64

/** Enumerations have 32 bits at the interface, whatever -fshort-enums says (on bare metal it is the default). */
#define MV_32_BITS __attribute__((mode(SI)))

/** Handles: never 0, and no two alike. */
typedef uint32_t MvNotificationHandle;
typedef uint32_t MvNetworkHandle;
typedef uint32_t MvSystemEventHandle;

/** What every call answers. */
enum MvStatus {
    /** It is done. */
    MV_STATUS_OKAY = 0x0,
    /** Nobody told the board the date yet. */
    MV_STATUS_TIMENOTSET = 0x1,
    /** Memory that is not whole in the application's own, unaligned, or a value that is none of those allowed. */
    MV_STATUS_PARAMETERFAULT = 0x2,
    /** A length that the call does not take. */
    MV_STATUS_INVALIDBUFFERSIZE = 0x3,
    /** A register that is not the application's. */
    MV_STATUS_PERIPHERALACCESSFAULT = 0x4,
    /** It overlaps memory that was lent already. */
    MV_STATUS_BUFFERALREADYINUSE = 0x5,
    /** Not an interrupt of the application's, or one that is taken. */
    MV_STATUS_INVALIDINTERRUPT = 0x6,
    /** Not a handle, or not one any more. */
    MV_STATUS_INVALIDHANDLE = 0x7,
    /** All notification centres are taken: close one. */
    MV_STATUS_TOOMANYNOTIFICATIONBUFFERS = 0x8,
    /** No handler in the vector table. */
    MV_STATUS_INVALIDVECTOR = 0x9,
    /** Not here, not now, or not from a handler. */
    MV_STATUS_UNAVAILABLE = 0xa,
    /** A structure of another version than 1. */
    MV_STATUS_UNSUPPORTEDSTRUCTUREVERSION = 0xb,
    /** All channels are open. */
    MV_STATUS_TOOMANYCHANNELS = 0xc,
    /** No such endpoint. */
    MV_STATUS_UNKNOWNCHANNELENDPOINT = 0xd,
    /** No such type of channel. */
    MV_STATUS_UNKNOWNCHANNELTYPE = 0xe,
    /** The channel is closed. */
    MV_STATUS_CHANNELCLOSED = 0xf,
    /** There is no connection. */
    MV_STATUS_NETWORKNOTCONNECTED = 0x10,
    /** Too much for now: nothing was taken, try later. */
    MV_STATUS_RATELIMITED = 0x11,
    /** Lent memory does not begin where it must. */
    MV_STATUS_INVALIDBUFFERALIGNMENT = 0x12,
    /** Memory behind a pointer in a structure is not the application's. */
    MV_STATUS_LATEFAULT = 0x13,
    /** The answer has not come. */
    MV_STATUS_RESPONSENOTPRESENT = 0x14,
    /** No item of that index. */
    MV_STATUS_INDEXINVALID = 0x15,
    /** Beyond the end. */
    MV_STATUS_OFFSETINVALID = 0x16,
    /** One request a channel. */
    MV_STATUS_REQUESTALREADYSENT = 0x17,
    /** The request failed. */
    MV_STATUS_REQUESTUNSUCCESSFUL = 0x18,
    /** More than MV_LOG_MESSAGE_BYTES_MAX. */
    MV_STATUS_LOGMESSAGETOOLONG = 0x19,
    /** The service asked not to be told. */
    MV_STATUS_LOGGINGDISABLEDBYSERVER = 0x1a,
    /** Too many keys in one request. */
    MV_STATUS_TOOMANYCONFIGKEYS = 0x1b,
    /** No such store. */
    MV_STATUS_UNKNOWNCONFIGSTORE = 0x1c,
    /** No such scope. */
    MV_STATUS_UNKNOWNCONFIGSCOPE = 0x1d,
    /** Not a key. */
    MV_STATUS_INVALIDCONFIGKEY = 0x1e,
    /** No such method. */
    MV_STATUS_INVALIDAUTHENTICATION = 0x1f,
    /** Something else waits to be read. */
    MV_STATUS_WRONGDATAREQUESTED = 0x20,
    /** The microvisor's own fault. */
    MV_STATUS_INTERNALERROR = 0x21,
    /** An array is too long. */
    MV_STATUS_TOOMANYELEMENTS = 0x22,
    /** Something that must be given is not. */
    MV_STATUS_REQUIREDELEMENTMISSING = 0x23,
    /** Not while an update is installed: try later. */
    MV_STATUS_MICROVISORBUSY = 0x24,
    /** Beyond the end of the memory. */
    MV_STATUS_ADDRESSOUTOFRANGE = 0x25,
    /** A text is too long. */
    MV_STATUS_INPUTTOOLONG = 0x26,
} MV_32_BITS;
typedef enum MvStatus MvStatus;

/** What a notification tells. Those of channels never come: there are none yet. */
enum MvEventType {
    /** What an application writes into a record that it has read. */
    MV_EVENTTYPE_NOEVENT = 0x0,
    /** mvGetNetworkStatus answers something new. */
    MV_EVENTTYPE_NETWORKSTATUSCHANGED = 0x1,
    MV_EVENTTYPE_CHANNELDATAREADABLE = 0x2,
    MV_EVENTTYPE_CHANNELDATAWRITESPACE = 0x3,
    MV_EVENTTYPE_CHANNELNOTCONNECTED = 0x4,
    /** An update waits to be applied: mvRestart. */
    MV_EVENTTYPE_UPDATEDOWNLOADED = 0x5,
} MV_32_BITS;
typedef enum MvEventType MvEventType;

/** Whether there is a connection. */
enum MvNetworkStatus {
    /** Nobody asks for the network. */
    MV_NETWORKSTATUS_DELIBERATELYOFFLINE = 0x0,
    /** There is a connection to the service. */
    MV_NETWORKSTATUS_CONNECTED = 0x1,
    /** It is being made. */
    MV_NETWORKSTATUS_CONNECTING = 0x2,
    /** There is a network, and no connection to the service. */
    MV_NETWORKSTATUS_DISCONNECTEDWITHLINKUP = 0x3,
} MV_32_BITS;
typedef enum MvNetworkStatus MvNetworkStatus;

/** Why there is a connection, or why one is tried for: bits, any number of them at once. */
enum MvNetworkReason {
    /** No reason: no bit is set. */
    MV_NETWORKREASON_NOTCONNECTING = 0x0,
    /** The application holds a request. */
    MV_NETWORKREASON_USINGNETWORK = 0x1,
    /** The application never asked: the device stays connected. */
    MV_NETWORKREASON_NEVERUSEDNETWORKAPI = 0x2,
    /** It was away for as long as its manifest allows. */
    MV_NETWORKREASON_MINIMUMCHECKINEXPIRED = 0x4,
    /** It does not know the date. */
    MV_NETWORKREASON_RTCNOTSET = 0x8,
    /** The microvisor has a crash of its own to report. */
    MV_NETWORKREASON_KERNELERROR = 0x10,
    /** A crash report or a result waits for its receipt. */
    MV_NETWORKREASON_APPLICATIONERROR = 0x20,
    /** It started, and nobody has answered its first hello yet. */
    MV_NETWORKREASON_COLDBOOTCONNECTION = 0x40,
    /** An update is being fetched or tried. */
    MV_NETWORKREASON_FETCHINGUPDATE = 0x80,
    /** Somebody debugs it. */
    MV_NETWORKREASON_DEBUGGERATTACHED = 0x100,
    /** There is no application. */
    MV_NETWORKREASON_NOAPPLICATIONCODE = 0x200,
    /** It waits longer before it tries again. */
    MV_NETWORKREASON_ENHANCECALM = 0x800,
} MV_32_BITS;
typedef enum MvNetworkReason MvNetworkReason;

/** What a system notification is about. */
enum MvSystemNotificationSource {
    /** MV_EVENTTYPE_NETWORKSTATUSCHANGED. */
    MV_SYSTEMNOTIFICATIONSOURCE_NETWORK = 0x0,
    /** MV_EVENTTYPE_UPDATEDOWNLOADED. */
    MV_SYSTEMNOTIFICATIONSOURCE_UPDATE = 0x1,
} MV_32_BITS;
typedef enum MvSystemNotificationSource MvSystemNotificationSource;

/** Why the application runs. */
enum MvWakeReason {
    /** Power came. */
    MV_WAKEREASON_COLDBOOT = 0x0,
    MV_WAKEREASON_REMOTEMICROVISORRESTART = 0x1,
    /** The application asked for it: mvRestart. */
    MV_WAKEREASON_REMOTEAPPLICATIONRESTART = 0x2,
    MV_WAKEREASON_DEBUGGERRESTART = 0x3,
    /** The microvisor ended by a fault. */
    MV_WAKEREASON_MICROVISORCRASH = 0x4,
    /** The microvisor hung. */
    MV_WAKEREASON_MICROVISORWATCHDOG = 0x5,
    MV_WAKEREASON_MICROVISOROUTOFMEMORY = 0x6,
    MV_WAKEREASON_MICROVISORERROR = 0x7,
    /** The application ended by a fault, or hung. */
    MV_WAKEREASON_APPLICATIONCRASH = 0x8,
    /** This version, or the one before it, was put in place. */
    MV_WAKEREASON_APPLICATIONUPDATE = 0x9,
    /** The microvisor was exchanged. */
    MV_WAKEREASON_MICROVISORUPDATE = 0xa,
    MV_WAKEREASON_OPTIONBYTES = 0xb,
    MV_WAKEREASON_DEEPSLEEPCHECKIN = 0xc,
    MV_WAKEREASON_DEEPSLEEPAPPLICATION = 0xd,
    MV_WAKEREASON_DEEPSLEEPMODEM = 0xe,
    MV_WAKEREASON_DEEPSLEEPAPPLICATIONRTC = 0xf,
    MV_WAKEREASON_DEEPSLEEPOTHER = 0x10,
} MV_32_BITS;
typedef enum MvWakeReason MvWakeReason;

/** How to restart. */
enum MvRestartMode {
    /** Apply the update that waits, if one does. */
    MV_RESTARTMODE_AUTOAPPLYUPDATE = 0x0,
} MV_32_BITS;
typedef enum MvRestartMode MvRestartMode;

/** A record of a notification centre: 16 bytes. */
struct MvNotification {
    /** When, by mvGetMicroseconds. 8 bytes, little endian. */
    uint64_t microseconds;
    /** What. The application sets it to MV_EVENTTYPE_NOEVENT when it has read the record. */
    enum MvEventType event_type;
    /** The tag that was given with whatever caused it. */
    uint32_t tag;
};
typedef struct MvNotification MvNotification;

/** A notification centre to be opened. */
struct MvNotificationSetup {
    /** An interrupt of the application's, pended once a record: MV_IRQ_NOTIFICATION_FIRST to MV_IRQ_NOTIFICATION_LAST
    have no other use. */
    uint32_t irq;
    /** Records, aligned to 8 bytes, lent until the centre is closed. Zero before. */
    struct MvNotification *buffer;
    /** Its bytes: at least 32, a multiple of 16. */
    uint32_t buffer_size;
};
typedef struct MvNotificationSetup MvNotificationSetup;

/** A request for the network. */
struct MvRequestNetworkParams {
    /** 1. */
    uint32_t version;
    union {
        struct {
            /** The centre that is told when the status changes, or 0. */
            MvNotificationHandle notification_handle;
            /** What its records carry. */
            uint32_t notification_tag;
        } v1;
    };
};
typedef struct MvRequestNetworkParams MvRequestNetworkParams;

/** A subscription to what happens to the system. */
struct MvOpenSystemNotificationParams {
    /** The centre that is told. */
    MvNotificationHandle notification_handle;
    /** What its records carry. */
    uint32_t notification_tag;
    /** About what. */
    enum MvSystemNotificationSource notification_source;
};
typedef struct MvOpenSystemNotificationParams MvOpenSystemNotificationParams;

/* Time, clocks, identity */

/**
 * Does nothing: what a call costs.
 * May be called from a handler.
 */
enum MvStatus mvNoOp(void);

/**
 * Microseconds since the last reset; never goes back.
 * May be called from a handler.
 *
 * MV_STATUS_PARAMETERFAULT: `ms` is not 8 writable bytes of the application's RAM, aligned to 8
 */
enum MvStatus mvGetMicroseconds(uint64_t *ms);

/**
 * Microseconds since 1970, UTC.
 * May be called from a handler.
 *
 * MV_STATUS_PARAMETERFAULT: `usec` is not 8 writable bytes of the application's RAM, aligned to 8
 * MV_STATUS_TIMENOTSET: nobody told the board the date since its reset
 */
enum MvStatus mvGetWallTime(uint64_t *usec);

/**
 * Cycles a second of the core.
 *
 * MV_STATUS_PARAMETERFAULT: `hz` is not 4 writable bytes of the application's RAM, aligned to 4
 */
enum MvStatus mvGetSysClk(uint32_t *hz);

/**
 * Cycles a second of the AHB bus.
 *
 * MV_STATUS_PARAMETERFAULT: as for mvGetSysClk
 */
enum MvStatus mvGetHClk(uint32_t *hz);

/**
 * Cycles a second of the first APB bus, with the timers.
 *
 * MV_STATUS_PARAMETERFAULT: as for mvGetSysClk
 */
enum MvStatus mvGetPClk1(uint32_t *hz);

/**
 * Cycles a second of the second APB bus.
 *
 * MV_STATUS_PARAMETERFAULT: as for mvGetSysClk
 */
enum MvStatus mvGetPClk2(uint32_t *hz);

/**
 * The device's id: MV_DEVICE_ID_BYTES characters without a terminator. `len` is the size of `buf`, up to 512; what
 * follows the id is not written.
 *
 * MV_STATUS_INVALIDBUFFERSIZE: `len` is less than MV_DEVICE_ID_BYTES, or more than 512
 * MV_STATUS_PARAMETERFAULT: `buf` is not whole in the application's RAM
 * MV_STATUS_UNAVAILABLE: the board has not enrolled yet
 */
enum MvStatus mvGetDeviceId(uint8_t *buf, uint32_t len);

/* Start and end */

/**
 * Why the application runs: about its last start, and about the board's reset when it is the first start after one.
 *
 * MV_STATUS_PARAMETERFAULT: `mode` is not 4 writable bytes of the application's RAM, aligned to 4
 */
enum MvStatus mvGetWakeReason(enum MvWakeReason *mode);

/**
 * Ends this run. With an update that waits for it, the update is applied; with none the same version starts again, with
 * the manifest's back-off when that happens too often. It returns; the end comes soon after.
 *
 * MV_STATUS_PARAMETERFAULT: `mode` is not an MvRestartMode
 * MV_STATUS_MICROVISORBUSY: an update is being installed: try later
 */
enum MvStatus mvRestart(enum MvRestartMode mode);

/**
 * Lets the system's LED show the system's state (1), or not (0). The emulated board has none to show.
 *
 * MV_STATUS_PARAMETERFAULT: `enable` is neither 0 nor 1
 */
enum MvStatus mvSystemLedEnable(uint32_t enable);

/* Notifications */

/**
 * Opens a notification centre. A ring: records are written one after the other, from the first again after the last,
 * whether the application has read what was there or not, and each pends the interrupt once. An application that clears
 * event_type of what it has read sees that it was overrun: the record before the one it reads next is not clear any
 * more. At most MV_NOTIFICATION_CENTRES_MAX centres.
 *
 * MV_STATUS_PARAMETERFAULT: `notifications`, its buffer or `handle_out` are not whole in the application's memory, or
 *     not aligned
 * MV_STATUS_INVALIDBUFFERSIZE: less than 32 bytes, or not a multiple of 16
 * MV_STATUS_BUFFERALREADYINUSE: the buffer overlaps another centre's, or the log's
 * MV_STATUS_INVALIDINTERRUPT: the interrupt is not the application's, or another centre's
 * MV_STATUS_TOOMANYNOTIFICATIONBUFFERS: all centres are open
 */
enum MvStatus mvSetupNotifications(const struct MvNotificationSetup *notifications, MvNotificationHandle *handle_out);

/**
 * Closes a centre and writes 0 to the handle. The buffer is the application's again; what told this centre tells
 * nobody.
 *
 * MV_STATUS_INVALIDHANDLE: no centre has this handle
 * MV_STATUS_PARAMETERFAULT: `handle_in_out` is not 4 writable bytes, aligned to 4
 */
enum MvStatus mvCloseNotifications(MvNotificationHandle *handle_in_out);

/**
 * Puts a record with this type and tag into a centre: for tests of an application's own handlers.
 *
 * MV_STATUS_INVALIDHANDLE: no centre has this handle
 */
enum MvStatus mvTempTriggerNotification(MvNotificationHandle handle, enum MvEventType type, uint32_t tag);

/**
 * Subscribes a centre to what happens to the system. An update that waits already is told at once.
 *
 * MV_STATUS_INVALIDHANDLE: no centre has the handle in `params`
 * MV_STATUS_PARAMETERFAULT: `params` or `handle` are not whole in the application's memory, or there is no such source
 * MV_STATUS_UNAVAILABLE: MV_SYSTEM_NOTIFICATIONS_MAX are open
 */
enum MvStatus mvOpenSystemNotification(const struct MvOpenSystemNotificationParams *params, MvSystemEventHandle *handle);

/**
 * Ends a subscription and writes 0 to the handle.
 *
 * MV_STATUS_INVALIDHANDLE: no subscription has this handle
 * MV_STATUS_PARAMETERFAULT: `handle` is not 4 writable bytes, aligned to 4
 */
enum MvStatus mvCloseSystemNotification(MvSystemEventHandle *handle);

/* The network */

/**
 * Asks for the network until the request is released. At most MV_NETWORK_REQUESTS_MAX requests. An application that
 * never asks has it always; one that has asked once is online while it holds a request, when its manifest says, and
 * when the microvisor has reasons of its own.
 *
 * MV_STATUS_PARAMETERFAULT: `params` or `handle` are not whole in the application's memory; no centre has the handle in
 *     `params`, which is not 0; or the application holds as many requests as it may
 * MV_STATUS_UNSUPPORTEDSTRUCTUREVERSION: `version` is not 1
 */
enum MvStatus mvRequestNetwork(const struct MvRequestNetworkParams *params, MvNetworkHandle *handle);

/**
 * Releases a request and writes 0 to the handle. The connection ends after the manifest's grace, unless there is
 * another reason for it.
 *
 * MV_STATUS_INVALIDHANDLE: no request has this handle
 * MV_STATUS_PARAMETERFAULT: `handle` is not 4 writable bytes, aligned to 4
 */
enum MvStatus mvReleaseNetwork(MvNetworkHandle *handle);

/**
 * Whether there is a connection.
 *
 * MV_STATUS_INVALIDHANDLE: no request has this handle
 * MV_STATUS_PARAMETERFAULT: `status` is not 4 writable bytes, aligned to 4
 */
enum MvStatus mvGetNetworkStatus(MvNetworkHandle handle, enum MvNetworkStatus *status);

/**
 * Why there is a connection or one is tried for, and how many requests the application holds.
 *
 * MV_STATUS_PARAMETERFAULT: `reasons` or `request_ref_count` are not 4 writable bytes, aligned to 4
 */
enum MvStatus mvGetNetworkReasons(enum MvNetworkReason *reasons, uint32_t *request_ref_count);

/* Logging */

/**
 * Lends memory to the log: messages wait there until the service has room for them. `buffer` is aligned to 512 bytes;
 * its length is a multiple of 512, at most MV_LOG_BUFFER_BYTES_MAX. What an application writes into it spoils its own
 * messages only. The same memory again changes nothing.
 *
 * MV_STATUS_INVALIDBUFFERALIGNMENT: `buffer` does not begin at a multiple of 512
 * MV_STATUS_INVALIDBUFFERSIZE: `length_bytes` is 0, no multiple of 512, or more than MV_LOG_BUFFER_BYTES_MAX
 * MV_STATUS_PARAMETERFAULT: `buffer` is not whole in the application's RAM, or overlaps a centre's; or messages still
 *     wait in other memory that was lent before
 */
enum MvStatus mvServerLoggingInit(uint8_t *buffer, uint32_t length_bytes);

/**
 * Logs a message of 1 to MV_LOG_MESSAGE_BYTES_MAX bytes of UTF-8, without a terminator. It is copied.
 *
 * MV_STATUS_INVALIDBUFFERSIZE: it is empty, or there is no room for it: this one is lost, and counted
 * MV_STATUS_LOGGINGDISABLEDBYSERVER: the service asked not to be told
 * MV_STATUS_LOGMESSAGETOOLONG: it is more than MV_LOG_MESSAGE_BYTES_MAX bytes
 * MV_STATUS_PARAMETERFAULT: `message` is not whole in the application's memory
 * MV_STATUS_UNAVAILABLE: no memory was lent by mvServerLoggingInit
 */
enum MvStatus mvServerLog(const uint8_t *message, uint16_t length_bytes);

/* The test of a board in the factory: for the application that is the test, and no other */

/**
 * As mvServerLoggingInit, for messages to the factory's console.
 *
 * MV_STATUS_INVALIDBUFFERALIGNMENT, MV_STATUS_INVALIDBUFFERSIZE, MV_STATUS_PARAMETERFAULT: as there
 * MV_STATUS_UNAVAILABLE: this board is not being tested
 */
enum MvStatus mvTestLoggingInit(uint8_t *buffer, uint32_t length_bytes);

/**
 * Says something on the factory's console: 1 to MV_LOG_MESSAGE_BYTES_MAX bytes of UTF-8, without a terminator. It is copied.
 *
 * MV_STATUS_INVALIDBUFFERSIZE: it is empty, or there is no room for it: this one is lost
 * MV_STATUS_LOGMESSAGETOOLONG: it is more than MV_LOG_MESSAGE_BYTES_MAX bytes
 * MV_STATUS_PARAMETERFAULT: `message` is not whole in the application's memory
 * MV_STATUS_UNAVAILABLE: this board is not being tested, no memory was lent by mvTestLoggingInit, or the test is over
 */
enum MvStatus mvTestLog(const uint8_t *message, uint16_t length_bytes);

/**
 * Ends the test. 0 makes the board a product, for good: this application is ended, and the first one of production starts. Anything
 * else is shown and locks the board: nothing runs on it any more. It returns; the end comes soon after.
 *
 * MV_STATUS_UNAVAILABLE: this board is not being tested, or the verdict was given already
 */
enum MvStatus mvTestingComplete(uint32_t status);

/* Holdfast's own */

/**
 * Says that this version works: what an update on trial is confirmed by. Saying it again changes nothing.
 *
 * Not the ancestor's: its slot is 128.
 */
enum MvStatus hfHealthy(void);

/**
 * Publishes a sample to the tenant's telemetry. `content_type` says what the bytes are (`application/json`): visible ASCII, at most
 * HF_CONTENT_TYPE_BYTES_MAX; with a length of 0 there is none, and the pointer is not looked at. `data` has 1 to
 * HF_TELEMETRY_BYTES_MAX bytes. They are copied.
 *
 * MV_STATUS_PARAMETERFAULT: `content_type` or `data` are not whole in the application's memory, or the type is not visible ASCII
 * MV_STATUS_INVALIDBUFFERSIZE: a length is not one of those above
 * MV_STATUS_RATELIMITED: no room now; the sample is dropped, and counted
 *
 * Not the ancestor's: its slot is 129.
 */
enum MvStatus hfTelemetryPublish(const uint8_t *content_type, uint32_t content_type_length, const uint8_t *data,
                                 uint32_t length);

#ifdef __cplusplus
}
#endif

#include "holdfast_later.h"

#endif
