#pragma once
// No operating system.
#define __NO_CTYPE 1
