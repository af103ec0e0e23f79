export const HEAD_LENGTH: number;
export function chunkSource(text: string): string;
export function compiledPath(file: string): string;
