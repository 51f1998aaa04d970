/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoder and the flag fusion on random bytes: `fuzz_x86 SEED MILLISECONDS`. Half of the inputs begin like an
 * instruction of interest, because random bytes seldom do. Sanitizers judge; what must hold of a result is checked.
 */
#include <stdlib.h>
#include <time.h>

#include "check.h"
#include "x86.h"

static struct fake fake;
static const struct cpu cpu = {.ops = &fake_ops, .opaque = &fake};

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13;
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

static void fill(uint64_t *state, uint8_t *bytes)
{
	static const uint8_t openings[][4] = {
		{0x0f, 0xc7}, {0x66, 0x0f, 0xc7}, {0xf3, 0x0f, 0xc7}, {0x0f, 0x78}, {0x0f, 0x79}, {0x0f, 0x01},
		{0x66, 0x0f, 0x38, 0x80}, {0x66, 0x0f, 0x38, 0xf8}, {0x0f, 0x22}, {0x2e, 0x76}, {0x0f, 0x90},
	};
	uint64_t choice = next_random(state);

	for (size_t i = 0; i < X86_MAX_LENGTH; i++)
		bytes[i] = (uint8_t)(next_random(state) >> 24);
	if (choice & 1)
		return;
	const uint8_t *opening = openings[(choice >> 8) % (sizeof(openings) / sizeof(openings[0]))];
	for (size_t i = 0; i < 4 && (opening[i] || i == 0); i++)
		bytes[i] = opening[i];
}

static void check_one(const uint8_t *bytes)
{
	struct insn insn, shorter;
	enum decoded decoded = x86_decode(bytes, X86_MAX_LENGTH, &insn);
	bool used;

	CHECK(decoded != DECODED_SHORT);
	if (decoded == DECODED) {
		CHECK(insn.length >= 2 && insn.length <= X86_MAX_LENGTH);
		CHECK(insn.op > OP_OTHER && insn.op < OP_COUNT && x86_name(insn.op));
		CHECK(insn.reg < 16 && (insn.rm.memory || insn.rm.reg < 16 || insn.rm.reg == REG_NONE));
		CHECK_EQUAL(x86_decode(bytes, insn.length, &shorter), DECODED);
		CHECK_EQUAL(x86_decode(bytes, insn.length - 1u, &shorter), DECODED_SHORT);
		if (insn.rm.memory)
			x86_address(&insn, &cpu, VIRTUAL);
	}
	memcpy(fake.ram, bytes, X86_MAX_LENGTH);
	x86_consume_flags(&cpu, VIRTUAL, FLAG_CF, &used);
	x86_flags_dead(&cpu, VIRTUAL);
	/* The same at the end of what is mapped. */
	memcpy(fake.ram + RAM - X86_MAX_LENGTH, bytes, X86_MAX_LENGTH);
	x86_flags_dead(&cpu, VIRTUAL + RAM - X86_MAX_LENGTH / 2);
}

static int64_t milliseconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int main(int argc, char **argv)
{
	uint64_t state = argc > 1 ? strtoull(argv[1], NULL, 0) | 1 : 1, count = 0;
	int64_t end = milliseconds() + (argc > 2 ? atoll(argv[2]) : 1000);

	while (milliseconds() < end && !failures) {
		for (int i = 0; i < 1000 && !failures; i++, count++) {
			/* The first bytes of this exact size: reading beyond them is what the sanitizer sees. */
			uint8_t *bytes = malloc(X86_MAX_LENGTH);

			fill(&state, bytes);
			check_one(bytes);
			free(bytes);
		}
	}
	printf("%" PRIu64 " inputs\n", count);
	return failures != 0;
}
