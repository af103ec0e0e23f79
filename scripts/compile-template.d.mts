// Types of compile-template.mjs, which Node must be able to run as it is.
export function compileTemplate(path: string): string;
