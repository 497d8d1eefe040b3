#pragma once
#include <archive.h>
#include <archive_entry.h>
// For the extended attributes that archives carry.
#include <sys/xattr.h>

// glibc declares it only with _GNU_SOURCE, which the importer does not set.
extern int syncfs(int descriptor);
