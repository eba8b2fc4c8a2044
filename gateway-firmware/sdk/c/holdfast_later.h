/**
 * Calls of the ancestor's that exist and do not work yet: each answers MV_STATUS_UNAVAILABLE, whatever is passed. An application that
 * uses them compiles and links, and can tell.
 *
 * The statuses at each call are those it will have when it works. Included by holdfast.h.
 */
#ifndef HOLDFAST_LATER_H
#define HOLDFAST_LATER_H

#include "holdfast.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef uint32_t MvChannelHandle;
typedef uint32_t MvExternalFlashHandle;

enum MvChannelType {
    MV_CHANNELTYPE_OPAQUEBYTES = 0x0,
    MV_CHANNELTYPE_MQTT = 0x1,
    MV_CHANNELTYPE_HTTP = 0x2,
    MV_CHANNELTYPE_CONFIGFETCH = 0x3,
} MV_32_BITS;
typedef enum MvChannelType MvChannelType;

enum MvClosureReason {
    MV_CLOSUREREASON_NONE = 0x0,
    MV_CLOSUREREASON_CHANNELCLOSEDBYSERVER = 0x1,
    MV_CLOSUREREASON_CHANNELRESETBYSERVER = 0x2,
    MV_CLOSUREREASON_NETWORKDISCONNECTED = 0x3,
    MV_CLOSUREREASON_CONNECTIONTERMINATED = 0x4,
    MV_CLOSUREREASON_NOTYETOPEN = 0x5,
    MV_CLOSUREREASON_CLOSEDBYAPPLICATION = 0x6,
    MV_CLOSUREREASON_UNEXPECTEDLYTERMINATED = 0x7,
} MV_32_BITS;
typedef enum MvClosureReason MvClosureReason;

enum MvHttpResult {
    MV_HTTPRESULT_OK = 0x0,
    MV_HTTPRESULT_UNSUPPORTEDURISCHEME = 0x1,
    MV_HTTPRESULT_UNSUPPORTEDMETHOD = 0x2,
    MV_HTTPRESULT_INVALIDHEADERS = 0x3,
    MV_HTTPRESULT_INVALIDTIMEOUT = 0x4,
    MV_HTTPRESULT_REQUESTFAILED = 0x5,
    MV_HTTPRESULT_RESPONSETOOLARGE = 0x6,
} MV_32_BITS;
typedef enum MvHttpResult MvHttpResult;

enum MvConfigKeyFetchScope {
    MV_CONFIGKEYFETCHSCOPE_ACCOUNT = 0x0,
    MV_CONFIGKEYFETCHSCOPE_DEVICE = 0x1,
} MV_32_BITS;
typedef enum MvConfigKeyFetchScope MvConfigKeyFetchScope;

enum MvConfigKeyFetchStore {
    MV_CONFIGKEYFETCHSTORE_SECRET = 0x0,
    MV_CONFIGKEYFETCHSTORE_CONFIG = 0x1,
} MV_32_BITS;
typedef enum MvConfigKeyFetchStore MvConfigKeyFetchStore;

enum MvConfigFetchResult {
    MV_CONFIGFETCHRESULT_OK = 0x0,
    MV_CONFIGFETCHRESULT_RESPONSETOOLARGE = 0x1,
} MV_32_BITS;
typedef enum MvConfigFetchResult MvConfigFetchResult;

enum MvConfigKeyFetchResult {
    MV_CONFIGKEYFETCHRESULT_OK = 0x0,
    MV_CONFIGKEYFETCHRESULT_KEYNOTFOUND = 0x1,
    MV_CONFIGKEYFETCHRESULT_SERVERERROR = 0x2,
} MV_32_BITS;
typedef enum MvConfigKeyFetchResult MvConfigKeyFetchResult;

enum MvMqttReadableDataType {
    MV_MQTTREADABLEDATATYPE_NONE = 0x0,
    MV_MQTTREADABLEDATATYPE_MESSAGERECEIVED = 0x1,
    MV_MQTTREADABLEDATATYPE_MESSAGELOST = 0x2,
    MV_MQTTREADABLEDATATYPE_CONNECTRESPONSE = 0x3,
    MV_MQTTREADABLEDATATYPE_SUBSCRIBERESPONSE = 0x4,
    MV_MQTTREADABLEDATATYPE_UNSUBSCRIBERESPONSE = 0x5,
    MV_MQTTREADABLEDATATYPE_PUBLISHRESPONSE = 0x6,
    MV_MQTTREADABLEDATATYPE_DISCONNECTRESPONSE = 0x7,
} MV_32_BITS;
typedef enum MvMqttReadableDataType MvMqttReadableDataType;

enum MvMqttProtocolVersion {
    MV_MQTTPROTOCOLVERSION_V3_1_1 = 0x0,
    MV_MQTTPROTOCOLVERSION_V5 = 0x1,
} MV_32_BITS;
typedef enum MvMqttProtocolVersion MvMqttProtocolVersion;

enum MvMqttAuthenticationMethod {
    MV_MQTTAUTHENTICATIONMETHOD_NONE = 0x0,
    MV_MQTTAUTHENTICATIONMETHOD_USERNAMEPASSWORD = 0x1,
} MV_32_BITS;
typedef enum MvMqttAuthenticationMethod MvMqttAuthenticationMethod;

enum MvMqttRequestState {
    MV_MQTTREQUESTSTATE_REQUESTCOMPLETED = 0x0,
    MV_MQTTREQUESTSTATE_INVALIDPARAMETERS = 0x1,
    MV_MQTTREQUESTSTATE_ALREADYCONNECTED = 0x2,
    MV_MQTTREQUESTSTATE_NOTCONNECTED = 0x3,
    MV_MQTTREQUESTSTATE_NXDOMAIN = 0x4,
    MV_MQTTREQUESTSTATE_UNKNOWNCA = 0x5,
    MV_MQTTREQUESTSTATE_CERTIFICATEEXPIRED = 0x6,
    MV_MQTTREQUESTSTATE_SOCKETERROR = 0x7,
    MV_MQTTREQUESTSTATE_CONNECTIONCIRCUITBREAKER = 0x8,
} MV_32_BITS;
typedef enum MvMqttRequestState MvMqttRequestState;

enum MvMqttLostMessageReason {
    MV_MQTTLOSTMESSAGEREASON_DEVICERECEIVEBUFFERTOOSMALL = 0x0,
} MV_32_BITS;
typedef enum MvMqttLostMessageReason MvMqttLostMessageReason;

enum MvPowerSavingMode {
    MV_POWERSAVINGMODE_SLEEP = 0x0,
    MV_POWERSAVINGMODE_STOP0 = 0x1,
    MV_POWERSAVINGMODE_STOP1 = 0x2,
    MV_POWERSAVINGMODE_STOP2 = 0x3,
    MV_POWERSAVINGMODE_STOP3 = 0x4,
} MV_32_BITS;
typedef enum MvPowerSavingMode MvPowerSavingMode;

enum MvDeepSleepMode {
    MV_DEEPSLEEPMODE_STANDBY = 0x0,
    MV_DEEPSLEEPMODE_SHUTDOWN = 0x1,
} MV_32_BITS;
typedef enum MvDeepSleepMode MvDeepSleepMode;

enum MvWifiConfigMode {
    MV_WIFICONFIGMODE_APPLYNOW = 0x0,
    MV_WIFICONFIGMODE_CLEARNOW = 0x1,
} MV_32_BITS;
typedef enum MvWifiConfigMode MvWifiConfigMode;

/** Text or bytes: no terminator. */
struct MvSizedString {
    const uint8_t *data;
    uint32_t length;
};
typedef struct MvSizedString MvSizedString;

struct MvOpenChannelParams {
    uint32_t version;
    union {
        struct {
            MvNotificationHandle notification_handle;
            uint32_t notification_tag;
            MvNetworkHandle network_handle;
            uint8_t *receive_buffer;
            uint32_t receive_buffer_len;
            uint8_t *send_buffer;
            uint32_t send_buffer_len;
            enum MvChannelType channel_type;
            struct MvSizedString endpoint;
        } v1;
    };
};
typedef struct MvOpenChannelParams MvOpenChannelParams;

struct MvHttpHeader {
    uint32_t length;
    const uint8_t *data;
};
typedef struct MvHttpHeader MvHttpHeader;

struct MvHttpRequest {
    struct MvSizedString method;
    struct MvSizedString url;
    uint32_t num_headers;
    const struct MvHttpHeader *headers;
    struct MvSizedString body;
    uint32_t timeout_ms;
};
typedef struct MvHttpRequest MvHttpRequest;

struct MvHttpResponseData {
    enum MvHttpResult result;
    uint32_t status_code;
    uint32_t num_headers;
    uint32_t body_length;
};
typedef struct MvHttpResponseData MvHttpResponseData;

struct MvConfigKeyToFetch {
    enum MvConfigKeyFetchScope scope;
    enum MvConfigKeyFetchStore store;
    struct MvSizedString key;
};
typedef struct MvConfigKeyToFetch MvConfigKeyToFetch;

struct MvConfigKeyFetchParams {
    uint32_t num_items;
    const struct MvConfigKeyToFetch *keys_to_fetch;
};
typedef struct MvConfigKeyFetchParams MvConfigKeyFetchParams;

struct MvConfigResponseData {
    enum MvConfigFetchResult result;
    uint32_t num_items;
};
typedef struct MvConfigResponseData MvConfigResponseData;

/** Room for text or bytes, and where their number goes. */
struct MvSizedStringBuffer {
    uint8_t *data;
    uint32_t size;
    uint32_t *length;
};
typedef struct MvSizedStringBuffer MvSizedStringBuffer;

struct MvConfigResponseReadItemParams {
    uint32_t item_index;
    enum MvConfigKeyFetchResult *result;
    struct MvSizedStringBuffer buf;
};
typedef struct MvConfigResponseReadItemParams MvConfigResponseReadItemParams;

struct MvUsernamePassword {
    struct MvSizedString username;
    struct MvSizedString password;
};
typedef struct MvUsernamePassword MvUsernamePassword;

struct MvMqttAuthentication {
    enum MvMqttAuthenticationMethod method;
    struct MvUsernamePassword username_password;
};
typedef struct MvMqttAuthentication MvMqttAuthentication;

struct MvTlsCertificateChain {
    uint32_t num_certs;
    const struct MvSizedString *certs;
};
typedef struct MvTlsCertificateChain MvTlsCertificateChain;

struct MvOwnTlsCertificateChain {
    struct MvTlsCertificateChain chain;
    struct MvSizedString key;
};
typedef struct MvOwnTlsCertificateChain MvOwnTlsCertificateChain;

struct MvTlsCredentials {
    struct MvTlsCertificateChain cacert;
    struct MvOwnTlsCertificateChain clientcert;
};
typedef struct MvTlsCredentials MvTlsCredentials;

struct MvMqttWill {
    struct MvSizedString topic;
    struct MvSizedString payload;
    uint32_t qos;
    uint8_t retain;
};
typedef struct MvMqttWill MvMqttWill;

struct MvMqttConnectRequest {
    enum MvMqttProtocolVersion protocol_version;
    struct MvSizedString host;
    uint16_t port;
    struct MvSizedString clientid;
    struct MvMqttAuthentication authentication;
    const struct MvTlsCredentials *tls_credentials;
    uint32_t keepalive;
    uint8_t clean_start;
    const struct MvMqttWill *will;
};
typedef struct MvMqttConnectRequest MvMqttConnectRequest;

struct MvMqttConnectResponse {
    enum MvMqttRequestState request_state;
    uint32_t reason_code;
};
typedef struct MvMqttConnectResponse MvMqttConnectResponse;

struct MvMqttSubscription {
    struct MvSizedString topic;
    uint32_t desired_qos;
    uint32_t nl;
    uint32_t rap;
    uint32_t rh;
};
typedef struct MvMqttSubscription MvMqttSubscription;

struct MvMqttSubscribeRequest {
    uint32_t correlation_id;
    const struct MvMqttSubscription *subscriptions;
    uint32_t num_subscriptions;
};
typedef struct MvMqttSubscribeRequest MvMqttSubscribeRequest;

struct MvMqttSubscribeResponse {
    enum MvMqttRequestState *request_state;
    uint32_t *correlation_id;
    uint32_t *reason_codes;
    uint32_t reason_codes_size;
    uint32_t *reason_codes_len;
};
typedef struct MvMqttSubscribeResponse MvMqttSubscribeResponse;

struct MvMqttUnsubscribeRequest {
    uint32_t correlation_id;
    const struct MvSizedString *topics;
    uint32_t num_topics;
};
typedef struct MvMqttUnsubscribeRequest MvMqttUnsubscribeRequest;

struct MvMqttUnsubscribeResponse {
    enum MvMqttRequestState *request_state;
    uint32_t *correlation_id;
    uint32_t *reason_codes;
    uint32_t reason_codes_size;
    uint32_t *reason_codes_len;
};
typedef struct MvMqttUnsubscribeResponse MvMqttUnsubscribeResponse;

struct MvMqttPublishRequest {
    uint32_t correlation_id;
    struct MvSizedString topic;
    struct MvSizedString payload;
    uint32_t desired_qos;
    uint32_t retain;
};
typedef struct MvMqttPublishRequest MvMqttPublishRequest;

struct MvMqttPublishResponse {
    enum MvMqttRequestState request_state;
    uint32_t correlation_id;
    uint32_t reason_code;
};
typedef struct MvMqttPublishResponse MvMqttPublishResponse;

struct MvMqttMessage {
    uint32_t *correlation_id;
    struct MvSizedStringBuffer topic;
    struct MvSizedStringBuffer payload;
    uint32_t *qos;
    uint8_t *retain;
};
typedef struct MvMqttMessage MvMqttMessage;

struct MvMqttLostMessageInfo {
    enum MvMqttLostMessageReason *reason;
    struct MvSizedStringBuffer topic;
    uint32_t *message_len;
};
typedef struct MvMqttLostMessageInfo MvMqttLostMessageInfo;

struct MvMqttDisconnectResponse {
    enum MvMqttRequestState request_state;
    uint32_t disconnect_code;
};
typedef struct MvMqttDisconnectResponse MvMqttDisconnectResponse;

struct MvExternalFlashInfo {
    uint32_t version;
    union {
        struct {
            uint32_t chip_id;
            uint32_t size;
            uint32_t num_handles;
        } v1;
    };
};
typedef struct MvExternalFlashInfo MvExternalFlashInfo;

struct MvWifiConfig {
    uint32_t version;
    union {
        struct {
            enum MvWifiConfigMode config_mode;
            struct MvSizedString wifi_ssid;
            struct MvSizedString wifi_password;
        } v1;
    };
};
typedef struct MvWifiConfig MvWifiConfig;

struct MvWifiConfigOut {
    uint32_t version;
    union {
        struct {
            struct MvSizedStringBuffer ssid;
            uint8_t *has_encryption;
        } v1;
    };
};
typedef struct MvWifiConfigOut MvWifiConfigOut;

/* Fast interrupts. An interrupt would be taken without the microvisor in between. */

/** INVALIDINTERRUPT, UNAVAILABLE. */
enum MvStatus mvEnableFastInterrupt(uint32_t irqn);

enum MvStatus mvDisableAllFastInterrupts(void);

/** INVALIDINTERRUPT, INVALIDVECTOR, UNAVAILABLE. */
enum MvStatus mvSetFastInterrupt(uint32_t irqn);

/** INVALIDINTERRUPT, UNAVAILABLE. */
enum MvStatus mvDisableFastInterrupt(uint32_t irqn);

/** INVALIDINTERRUPT, UNAVAILABLE. */
enum MvStatus mvClearFastInterrupt(uint32_t irqn);

enum MvStatus mvEnableAllFastInterrupts(void);

/* Registers that the microvisor shares. Reads, or changes by `mask` and `xorvalue`, a register of a peripheral that the microvisor owns. */

/** PERIPHERALACCESSFAULT. */
enum MvStatus mvPeriphPoke32(uint32_t reg, uint32_t mask, uint32_t xorvalue);

/** PERIPHERALACCESSFAULT. */
enum MvStatus mvPeriphPeek32(uint32_t reg, uint32_t *output);

/* Channels: streams of bytes to the cloud. A channel has buffers that the application lends, and tells by a notification centre. */

/** INVALIDBUFFERALIGNMENT, INVALIDBUFFERSIZE, INVALIDHANDLE, NETWORKNOTCONNECTED, PARAMETERFAULT, RATELIMITED,
 *  TOOMANYCHANNELS, UNAVAILABLE, UNKNOWNCHANNELENDPOINT, UNKNOWNCHANNELTYPE. */
enum MvStatus mvOpenChannel(const struct MvOpenChannelParams *params, MvChannelHandle *handle);

/** INVALIDHANDLE, PARAMETERFAULT. */
enum MvStatus mvCloseChannel(MvChannelHandle *handle);

/** CHANNELCLOSED, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT. */
enum MvStatus mvWriteChannelStream(MvChannelHandle handle, const uint8_t *data, uint32_t len, uint32_t *written);

/** CHANNELCLOSED, INVALIDBUFFERSIZE, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT. */
enum MvStatus mvWriteChannel(MvChannelHandle handle, const uint8_t *data, uint32_t len, uint32_t *available);

/** CHANNELCLOSED, INVALIDHANDLE, PARAMETERFAULT. */
enum MvStatus mvReadChannel(MvChannelHandle handle, uint8_t **read_pointer_out, uint32_t *length_out);

/** CHANNELCLOSED, INVALIDHANDLE. */
enum MvStatus mvReadChannelComplete(MvChannelHandle handle, uint32_t consumed);

/** INVALIDHANDLE, PARAMETERFAULT. */
enum MvStatus mvGetChannelClosureReason(MvChannelHandle handle, enum MvClosureReason *reason_out);

/* HTTP. One request a channel of MV_CHANNELTYPE_HTTP. */

/** CHANNELCLOSED, INVALIDBUFFERSIZE, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT, REQUESTALREADYSENT, TOOMANYELEMENTS. */
enum MvStatus mvSendHttpRequest(MvChannelHandle handle, const struct MvHttpRequest *request);

/** CHANNELCLOSED, INVALIDHANDLE, PARAMETERFAULT, RESPONSENOTPRESENT. */
enum MvStatus mvReadHttpResponseData(MvChannelHandle handle, struct MvHttpResponseData *response_data);

/** CHANNELCLOSED, INDEXINVALID, INVALIDHANDLE, PARAMETERFAULT, RESPONSENOTPRESENT. */
enum MvStatus mvReadHttpResponseHeader(MvChannelHandle handle, uint32_t header_index, uint8_t *buf, uint32_t size);

/** CHANNELCLOSED, INVALIDHANDLE, OFFSETINVALID, PARAMETERFAULT, RESPONSENOTPRESENT. */
enum MvStatus mvReadHttpResponseBody(MvChannelHandle handle, uint32_t offset, uint8_t *buf, uint32_t size);

/* Configuration and secrets. One request a channel of MV_CHANNELTYPE_CONFIGFETCH. */

/** CHANNELCLOSED, INVALIDBUFFERSIZE, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT, REQUESTALREADYSENT. */
enum MvStatus mvSendConfigFetchRequest(MvChannelHandle handle, const struct MvConfigKeyFetchParams *request);

/** CHANNELCLOSED, PARAMETERFAULT. */
enum MvStatus mvReadConfigFetchResponseData(MvChannelHandle handle, struct MvConfigResponseData *response_data);

/** CHANNELCLOSED, INDEXINVALID, INVALIDHANDLE, PARAMETERFAULT, RESPONSENOTPRESENT. */
enum MvStatus mvReadConfigResponseItem(MvChannelHandle handle, const struct MvConfigResponseReadItemParams *params);

/* MQTT to brokers of the application's choice. On a channel of MV_CHANNELTYPE_MQTT. */

/** CHANNELCLOSED, INVALIDAUTHENTICATION, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT, REQUESTALREADYSENT,
 *  REQUIREDELEMENTMISSING, TOOMANYELEMENTS. */
enum MvStatus mvMqttRequestConnect(MvChannelHandle handle, const struct MvMqttConnectRequest *request);

/** CHANNELCLOSED, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT. */
enum MvStatus mvMqttReadConnectResponse(MvChannelHandle handle, struct MvMqttConnectResponse *response_data);

/** CHANNELCLOSED, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT, RATELIMITED, TOOMANYELEMENTS. */
enum MvStatus mvMqttRequestSubscribe(MvChannelHandle handle, const struct MvMqttSubscribeRequest *request);

/** CHANNELCLOSED, INVALIDBUFFERSIZE, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT. */
enum MvStatus mvMqttReadSubscribeResponse(MvChannelHandle handle, const struct MvMqttSubscribeResponse *response_data);

/** CHANNELCLOSED, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT, RATELIMITED, TOOMANYELEMENTS. */
enum MvStatus mvMqttRequestUnsubscribe(MvChannelHandle handle, const struct MvMqttUnsubscribeRequest *request);

/** CHANNELCLOSED, INVALIDBUFFERSIZE, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT. */
enum MvStatus mvMqttReadUnsubscribeResponse(MvChannelHandle handle, const struct MvMqttUnsubscribeResponse
                                            *response_data);

/** CHANNELCLOSED, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT, RATELIMITED. */
enum MvStatus mvMqttRequestPublish(MvChannelHandle handle, const struct MvMqttPublishRequest *request);

/** CHANNELCLOSED, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT. */
enum MvStatus mvMqttReadPublishResponse(MvChannelHandle handle, struct MvMqttPublishResponse *response_data);

/** CHANNELCLOSED, INVALIDBUFFERSIZE, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT. */
enum MvStatus mvMqttReceiveMessage(MvChannelHandle handle, const struct MvMqttMessage *message_data);

/** CHANNELCLOSED, INVALIDHANDLE, RATELIMITED. */
enum MvStatus mvMqttAcknowledgeMessage(MvChannelHandle handle, uint32_t correlation_id);

/** CHANNELCLOSED, INVALIDBUFFERSIZE, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT. */
enum MvStatus mvMqttReceiveLostMessageInfo(MvChannelHandle handle, const struct MvMqttLostMessageInfo
                                           *lost_message_info);

/** CHANNELCLOSED, INVALIDHANDLE, PARAMETERFAULT. */
enum MvStatus mvMqttGetNextReadableDataType(MvChannelHandle handle, enum MvMqttReadableDataType *data_type);

/** CHANNELCLOSED, INVALIDHANDLE, RATELIMITED. */
enum MvStatus mvMqttRequestDisconnect(MvChannelHandle handle);

/** CHANNELCLOSED, INVALIDHANDLE, LATEFAULT, PARAMETERFAULT. */
enum MvStatus mvMqttReadDisconnectResponse(MvChannelHandle handle, struct MvMqttDisconnectResponse *response_data);

/* Sleep. The emulated board does not sleep deeper than WFI. */

/** MICROVISORBUSY, PARAMETERFAULT, UNAVAILABLE. */
enum MvStatus mvPowerSave(enum MvPowerSavingMode mode);

/** MICROVISORBUSY, PARAMETERFAULT, UNAVAILABLE. */
enum MvStatus mvDeepSleep(enum MvDeepSleepMode mode);

/* External flash. A part of the flash would be the application's. */

/** PARAMETERFAULT, TOOMANYCHANNELS, UNAVAILABLE. */
enum MvStatus mvExternalFlashOpen(MvExternalFlashHandle *handle);

/** INVALIDHANDLE, UNAVAILABLE. */
enum MvStatus mvExternalFlashClose(MvExternalFlashHandle *handle);

/** INVALIDHANDLE, PARAMETERFAULT, UNAVAILABLE, UNSUPPORTEDSTRUCTUREVERSION. */
enum MvStatus mvExternalFlashGetInfo(MvExternalFlashHandle handle, struct MvExternalFlashInfo *info);

/** ADDRESSOUTOFRANGE, INVALIDBUFFERALIGNMENT, INVALIDHANDLE, PARAMETERFAULT, UNAVAILABLE. */
enum MvStatus mvExternalFlashEraseBlocking(MvExternalFlashHandle handle, uint32_t address, uint32_t length);

/** ADDRESSOUTOFRANGE, INVALIDHANDLE, PARAMETERFAULT, UNAVAILABLE. */
enum MvStatus mvExternalFlashReadBlocking(MvExternalFlashHandle handle, uint32_t address, uint32_t length, uint8_t
                                          *buffer);

/** ADDRESSOUTOFRANGE, INVALIDHANDLE, PARAMETERFAULT, UNAVAILABLE. */
enum MvStatus mvExternalFlashWriteBlocking(MvExternalFlashHandle handle, uint32_t address, uint32_t length, const
                                           uint8_t *buffer);

/* Wi-Fi. The emulated board has none. */

enum MvStatus mvSetWifiConfig(const struct MvWifiConfig *params);

enum MvStatus mvGetWifiConfig(const struct MvWifiConfigOut *params);

#ifdef __cplusplus
}
#endif

#endif
