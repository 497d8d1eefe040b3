#pragma once
#include <curl/curl.h>

// Swift cannot call variadic functions. Each wrapper fixes the type of one kind of value; nothing here has logic of its own.

typedef size_t (*apus_curl_data_callback)(char *data, size_t size, size_t count, void *context);
typedef int (*apus_curl_progress_callback)(void *context, curl_off_t download_total, curl_off_t downloaded, curl_off_t upload_total, curl_off_t uploaded);

/// curl_easy_setopt with a `long`.
static inline CURLcode apus_curl_set_long(CURL *handle, CURLoption option, long value) { return curl_easy_setopt(handle, option, value); }
/// curl_easy_setopt with a `curl_off_t`.
static inline CURLcode apus_curl_set_offset(CURL *handle, CURLoption option, curl_off_t value) { return curl_easy_setopt(handle, option, value); }
/// curl_easy_setopt with a string, which curl copies.
static inline CURLcode apus_curl_set_string(CURL *handle, CURLoption option, const char *value) { return curl_easy_setopt(handle, option, value); }
/// curl_easy_setopt with a pointer that must outlive the transfer.
static inline CURLcode apus_curl_set_pointer(CURL *handle, CURLoption option, void *value) { return curl_easy_setopt(handle, option, value); }
/// curl_easy_setopt with a list that must outlive the transfer.
static inline CURLcode apus_curl_set_list(CURL *handle, CURLoption option, struct curl_slist *value) { return curl_easy_setopt(handle, option, value); }
/// curl_easy_setopt with a function that gets or gives bytes.
static inline CURLcode apus_curl_set_data_callback(CURL *handle, CURLoption option, apus_curl_data_callback value) {
    return curl_easy_setopt(handle, option, value);
}
/// curl_easy_getinfo of a `long`.
static inline CURLcode apus_curl_get_long(CURL *handle, CURLINFO info, long *value) { return curl_easy_getinfo(handle, info, value); }
/// curl_easy_getinfo of a string, which lives as long as the handle's transfer.
static inline CURLcode apus_curl_get_string(CURL *handle, CURLINFO info, const char **value) { return curl_easy_getinfo(handle, info, (char **)value); }
/// curl_multi_setopt with a `long`.
static inline CURLMcode apus_curl_multi_set_long(CURLM *handle, CURLMoption option, long value) { return curl_multi_setopt(handle, option, value); }
/// The result of a finished transfer of this multi handle, or -1 while there is none.
static inline long apus_curl_multi_result(CURLM *handle) {
    int left = 0;
    CURLMsg *message;
    while ((message = curl_multi_info_read(handle, &left)) != NULL) {
        if (message->msg == CURLMSG_DONE) return (long)message->data.result;
    }
    return -1;
}
/// CURL_GLOBAL_ALL is an expression that Swift does not import.
static inline CURLcode apus_curl_global_init(void) { return curl_global_init(CURL_GLOBAL_ALL); }
