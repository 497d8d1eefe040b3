#pragma once
#include <ltdl.h>
